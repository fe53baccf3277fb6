"""What people look at: a page of HTML and a workbook, in French and English, made of the Parquet sets."""
