class Pps:
    def __init__(self,*a): pass
