-- Q37 for stock that is expected to be large and old: which items of a price range lie in the warehouses.
SELECT i_item_id, i_item_desc, i_current_price, count(*) AS stocks
FROM item, inventory
WHERE i_current_price BETWEEN 68 AND 98
  AND inv_item_sk = i_item_sk
  AND ageing(inv_date_sk, inv_quantity_on_hand) > 220000
GROUP BY i_item_id, i_item_desc, i_current_price
ORDER BY stocks DESC, i_item_id, i_item_desc NULLS FIRST, i_current_price
LIMIT 100;
