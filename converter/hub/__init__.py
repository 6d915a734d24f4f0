"""The Hugging Face Hub: what it is asked, what it answers, and how it fails."""
