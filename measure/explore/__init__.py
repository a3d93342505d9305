"""Searches machines for a model and a chip: by estimates first, then by place and route, which takes much longer.

target.py    the chip: a board, or limits that describe a device
space.py     the fields that are searched, and the machine of a choice
judge.py     the estimate of a machine
study.py     Optuna's study in an SQLite file: it proposes machines and stores their results
route.py     machines placed and routed
search.py    the whole search
figures.py   the front as a table, a picture and files
"""
