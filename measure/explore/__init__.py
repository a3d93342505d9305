"""Searches machines for a model and a chip: estimates as the cheap level, place and route as the dear one.

target.py    the chip: a board, or limits that describe a device
space.py     the fields that are searched, and the machine that they mean
judge.py     what a machine costs and gives, by the estimate
study.py     Optuna's study in an SQLite file: asks for machines, is told what they are worth
route.py     machines placed and routed
search.py    all of it together
figures.py   the front as a table, a picture and files
"""
