"""The paper's own tables on its own data, with the paper's figures beside them."""
