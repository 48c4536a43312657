#pragma once
// Element types of NCCL and their reductions.

#include <nccl.h>

#include <cstddef>
#include <vector>

namespace softgpu
{

size_t nccl_type_bytes(ncclDataType_t type); // 0: not known here
bool nccl_operation_known(ncclRedOp_t operation);
// to[count] = the ranks' values, combined in rank order; narrow types are rounded each time.
void nccl_reduce(void *to, const std::vector<const char *> &from, size_t count, ncclDataType_t type,
                 ncclRedOp_t operation);

} // namespace softgpu
