"""S3 as the function reads it."""
