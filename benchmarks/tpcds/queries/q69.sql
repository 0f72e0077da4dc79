-- Q69 with models in EXISTS and NOT EXISTS: customers with profitable purchases in stores and none by catalog.
SELECT cd_gender, cd_marital_status, cd_education_status, count(*) AS cnt1
FROM customer AS c, customer_address AS ca, customer_demographics
WHERE c.c_current_addr_sk = ca.ca_address_sk
  AND ca_state IN ('KY', 'GA', 'NM')
  AND cd_demo_sk = c.c_current_cdemo_sk
  AND EXISTS (
      SELECT *
      FROM store_sales
      WHERE c.c_customer_sk = ss_customer_sk
        AND store_profit(ss_quantity, ss_wholesale_cost, ss_sales_price) > 3500)
  AND NOT EXISTS (
      SELECT *
      FROM catalog_sales
      WHERE c.c_customer_sk = cs_bill_customer_sk
        AND catalog_profit(cs_quantity, cs_wholesale_cost, cs_sales_price) > 6000)
GROUP BY cd_gender, cd_marital_status, cd_education_status
ORDER BY cd_gender NULLS FIRST, cd_marital_status NULLS FIRST, cd_education_status NULLS FIRST
LIMIT 100;
