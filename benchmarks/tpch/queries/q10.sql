-- Q10 with a class of orders: returned lines in orders that a classifier takes for partly shipped.
SELECT c_custkey, c_name, sum(l_extendedprice * (1 - l_discount)) AS revenue, c_acctbal, n_name
FROM customer, orders, lineitem, nation
WHERE c_custkey = o_custkey
  AND l_orderkey = o_orderkey
  AND o_orderdate >= DATE '1995-01-01'
  AND l_returnflag = 'R'
  AND c_nationkey = n_nationkey
  AND status_class(o_totalprice, epoch(o_orderdate)) = 2
GROUP BY c_custkey, c_name, c_acctbal, n_name
ORDER BY revenue DESC, c_custkey
LIMIT 20;
