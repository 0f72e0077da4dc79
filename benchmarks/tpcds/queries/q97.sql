-- Q97 with a model in each CTE of a full outer join: customers and items sold at a profit in one channel or in both.
WITH ssci AS (
    SELECT ss_customer_sk AS customer_sk, ss_item_sk AS item_sk
    FROM store_sales
    WHERE store_profit(ss_quantity, ss_wholesale_cost, ss_sales_price) > 3000
    GROUP BY ss_customer_sk, ss_item_sk),
csci AS (
    SELECT cs_bill_customer_sk AS customer_sk, cs_item_sk AS item_sk
    FROM catalog_sales
    WHERE catalog_profit(cs_quantity, cs_wholesale_cost, cs_sales_price) > 7000
    GROUP BY cs_bill_customer_sk, cs_item_sk)
SELECT count_if(ssci.customer_sk IS NOT NULL AND csci.customer_sk IS NULL) AS store_only,
       count_if(ssci.customer_sk IS NULL AND csci.customer_sk IS NOT NULL) AS catalog_only,
       count_if(ssci.customer_sk IS NOT NULL AND csci.customer_sk IS NOT NULL) AS store_and_catalog
FROM ssci
FULL OUTER JOIN csci ON ssci.customer_sk = csci.customer_sk AND ssci.item_sk = csci.item_sk;
