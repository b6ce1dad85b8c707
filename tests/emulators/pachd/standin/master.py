class Master:
    def __init__(self,*a): pass
    def start(self): pass
