"""The long campaigns: what takes too long for every commit, run before a release and when what they rest on changes.

`make verify` runs every part, `make verify PART=forge SEED=7` one of them with other chances. A part is cut into
chunks; what is done is kept in `build/verify`, so a run that was stopped goes on where it was. `make verify-report`
writes the results into `contracts/VERIFICATION.md` and, for the engine, `tests/VERIFICATION.md`. A chunk counts only
for its seed and the files the part rests on, and for the contracts' page only for their bytecode.
"""
