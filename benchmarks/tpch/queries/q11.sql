-- Q11 for stock of high value only, in the groups and in the total that they are compared with.
SELECT ps_partkey, sum(ps_supplycost * ps_availqty) AS value
FROM partsupp, supplier, nation
WHERE ps_suppkey = s_suppkey
  AND s_nationkey = n_nationkey
  AND n_name = 'GERMANY'
  AND stock_value(ps_availqty, ps_supplycost) > 9000000
GROUP BY ps_partkey
HAVING sum(ps_supplycost * ps_availqty) > (
    SELECT sum(ps_supplycost * ps_availqty) * 0.005
    FROM partsupp, supplier, nation
    WHERE ps_suppkey = s_suppkey
      AND s_nationkey = n_nationkey
      AND n_name = 'GERMANY'
      AND stock_value(ps_availqty, ps_supplycost) > 9000000)
ORDER BY value DESC, ps_partkey;
