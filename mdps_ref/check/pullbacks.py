"""Exercises to come."""

EXERCISES = {}
