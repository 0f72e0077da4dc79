-- Q93 for returns with a high expected loss, behind an outer join that the condition makes an inner one.
SELECT ss_customer_sk, sum(act_sales) AS sumsales
FROM (SELECT ss_customer_sk,
             CASE WHEN sr_return_quantity IS NOT NULL THEN (ss_quantity - sr_return_quantity) * ss_sales_price
                  ELSE ss_quantity * ss_sales_price END AS act_sales
      FROM store_sales
      LEFT JOIN store_returns ON sr_item_sk = ss_item_sk AND sr_ticket_number = ss_ticket_number
      WHERE return_loss(sr_return_amt, sr_fee, sr_return_ship_cost) > 4500) AS t
GROUP BY ss_customer_sk
ORDER BY sumsales NULLS FIRST, ss_customer_sk NULLS FIRST
LIMIT 100;
