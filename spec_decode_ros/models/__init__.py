"""Loading, drafting and verifying with torch and transformers."""
