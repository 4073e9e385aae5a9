"""What measures speed, memory and accuracy, and draws the tables and charts. Not installed."""
