-- Q3 for sales with a high expected profit: the brands that earn most in November.
SELECT d_year, i_brand_id AS brand_id, i_brand AS brand, sum(ss_ext_sales_price) AS sum_agg
FROM date_dim, store_sales, item
WHERE d_date_sk = ss_sold_date_sk
  AND ss_item_sk = i_item_sk
  AND d_moy = 11
  AND store_profit(ss_quantity, ss_wholesale_cost, ss_sales_price) > 3500
GROUP BY d_year, i_brand, i_brand_id
ORDER BY d_year, sum_agg DESC, brand_id, brand
LIMIT 100;
