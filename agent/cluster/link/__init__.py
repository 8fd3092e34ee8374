"""Links between members, under mutual TLS, and what is asked over them."""
