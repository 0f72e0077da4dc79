-- Q33 with a model per channel: which manufacturers sell with a high expected profit in stores and catalogs.
WITH ss AS (
    SELECT i_manufact_id, sum(ss_ext_sales_price) AS total_sales
    FROM store_sales, date_dim, item
    WHERE ss_item_sk = i_item_sk
      AND ss_sold_date_sk = d_date_sk
      AND d_year = 1998
      AND store_profit(ss_quantity, ss_wholesale_cost, ss_sales_price) > 4000
    GROUP BY i_manufact_id),
cs AS (
    SELECT i_manufact_id, sum(cs_ext_sales_price) AS total_sales
    FROM catalog_sales, date_dim, item
    WHERE cs_item_sk = i_item_sk
      AND cs_sold_date_sk = d_date_sk
      AND d_year = 1998
      AND catalog_profit(cs_quantity, cs_wholesale_cost, cs_sales_price) > 10000
    GROUP BY i_manufact_id)
SELECT i_manufact_id, sum(total_sales) AS total_sales
FROM (SELECT * FROM ss UNION ALL SELECT * FROM cs) AS tmp1
GROUP BY i_manufact_id
ORDER BY total_sales DESC, i_manufact_id
LIMIT 100;
