-- Q18 with two models: large orders with much at stake, and the lines of them with a high expected charge.
SELECT c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice, sum(l_quantity) AS quantity
FROM customer, orders, lineitem
WHERE o_orderkey IN (
      SELECT l_orderkey
      FROM lineitem
      GROUP BY l_orderkey
      HAVING sum(l_quantity) > 250)
  AND c_custkey = o_custkey
  AND o_orderkey = l_orderkey
  AND exposure(o_totalprice, epoch(o_orderdate)) > 400000
  AND charge(l_quantity, l_extendedprice, l_discount) > 80000
GROUP BY c_name, c_custkey, o_orderkey, o_orderdate, o_totalprice
ORDER BY o_totalprice DESC, o_orderdate, o_orderkey
LIMIT 100;
