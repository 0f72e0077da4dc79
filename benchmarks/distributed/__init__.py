"""What Ray gains over one process; see README.md."""
