"""placeholder"""
def expand(jobs): print(jobs[0].root, jobs[0].data_seed, jobs[0].source, len(jobs))
