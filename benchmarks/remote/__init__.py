"""Files on an S3 server: see README.md."""
