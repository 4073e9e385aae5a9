"""Speed, memory and accuracy on the CPU."""
