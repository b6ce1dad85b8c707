from python_pachyderm.proto.pps import pps_pb2_grpc
class PpsApi(pps_pb2_grpc.APIServicer):
    def __init__(self,*a): pass
