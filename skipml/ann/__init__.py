"""A nearest-neighbour index that lives in plain Parquet: clusters are row groups, and faiss scans them in place.

A row has two lists (SOAR). Its vector is stored once, in the rows file under its first list; its code is stored twice,
in the codes file under both lists, each time as the code of its residual there, beside the position of the row in the
rows file. The other layout, vectors under both lists and no codes, was measured on 100,000 sentence embeddings of 384
values in 1,309 lists, at recall@10 of 0.95 (11 lists): the same latency within 10 %, 16.6 times the bytes read (2.90
against 0.175 MB a query) and 1.8 times the size (2.0 against 1.10 times the vectors). Full vectors under one list
each need 40 lists and 5.0 MB.

Vectors of fewer than 32 values have no codes and one list: there the vectors themselves are scanned.
"""
