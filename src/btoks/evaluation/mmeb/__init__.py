"""MMEB-V2: 78 data sets of pictures, videos and document pages, with its own instructions, candidates and counts.

registry (78 rows of data) ──loader of the row's format──▶ Task ──check of the counts──▶ evaluate
"""
