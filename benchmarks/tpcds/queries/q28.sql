-- Q28 with bands of expected profit: list prices in three bands of one table, each a scan of its own.
SELECT *
FROM (SELECT avg(ss_list_price) AS b1_lp, count(ss_list_price) AS b1_cnt, count(DISTINCT ss_list_price) AS b1_cntd
      FROM store_sales
      WHERE ss_quantity BETWEEN 91 AND 100
        AND store_profit(ss_quantity, ss_wholesale_cost, ss_sales_price) < -8000) AS b1,
     (SELECT avg(ss_list_price) AS b2_lp, count(ss_list_price) AS b2_cnt, count(DISTINCT ss_list_price) AS b2_cntd
      FROM store_sales
      WHERE ss_quantity BETWEEN 81 AND 90
        AND store_profit(ss_quantity, ss_wholesale_cost, ss_sales_price) < -7000) AS b2,
     (SELECT avg(ss_list_price) AS b3_lp, count(ss_list_price) AS b3_cnt, count(DISTINCT ss_list_price) AS b3_cntd
      FROM store_sales
      WHERE ss_quantity BETWEEN 71 AND 80
        AND store_profit(ss_quantity, ss_wholesale_cost, ss_sales_price) > 3000) AS b3;
