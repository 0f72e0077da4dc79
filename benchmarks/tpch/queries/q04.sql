-- Q4 with a model inside EXISTS: orders of which the discount on a line costs more than 9,000.
SELECT o_orderpriority, count(*) AS order_count
FROM orders
WHERE o_orderdate >= DATE '1993-07-01'
  AND o_orderdate < DATE '1993-10-01'
  AND EXISTS (
      SELECT *
      FROM lineitem
      WHERE l_orderkey = o_orderkey
        AND given_away(l_extendedprice, l_discount) > 9000)
GROUP BY o_orderpriority
ORDER BY o_orderpriority;
