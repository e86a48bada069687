"""Data sets as data: nothing about models or training."""
