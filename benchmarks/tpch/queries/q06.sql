-- Q6 for lines whose expected charge is high: what a discount on these costs.
SELECT sum(l_extendedprice * l_discount) AS revenue
FROM lineitem
WHERE l_shipdate >= DATE '1994-01-01'
  AND l_shipdate < DATE '1995-01-01'
  AND l_discount BETWEEN 0.05 AND 0.07
  AND charge(l_quantity, l_extendedprice, l_discount) > 90000;
