"""Any framework's parameters as flat vectors."""
