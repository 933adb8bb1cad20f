"""How the function reads S3."""
