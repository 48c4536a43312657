#pragma once
// Operations: what each reads and writes, whether its shapes fit, and its loops.

#include "tensor.h"

namespace softgpu
{

// In which order a plan adds up: plans differ in their bits, as cuDNN's do.
struct Order {
    int parts;     // sums are split in so many, added at the end
    bool backward; // from the last term to the first
    bool tf32;     // f32 operands of convolutions and matmuls are rounded
};

class Sum
{
  public:
    explicit Sum(const Order &order) : parts_(order.parts)
    {
    }
    void add(float v)
    {
        part_[next_] += v;
        if (++next_ == parts_)
            next_ = 0;
    }
    float total() const
    {
        float sum = 0.0f;
        for (int i = 0; i < parts_; i++)
            sum += part_[i];
        return sum;
    }

  private:
    float part_[8] = {};
    int parts_, next_ = 0;
};

// The values of all tensors of a graph while it runs.
class Env
{
  public:
    virtual ~Env() = default;
    virtual const Values &get(const Tensor &tensor) = 0;
    virtual void put(const Tensor &tensor, Values values) = 0; // rounds to the tensor's type
    Order order;
};

std::vector<Tensor> operation_reads(const Desc &op);
std::vector<Tensor> operation_writes(const Desc &op);
void operation_run(const Desc &op, Env &env);

// In files of their own.
void convolution_check(const Desc &op);
void convolution_run(const Desc &op, Env &env);
void pointwise_check(const Desc &op);
void pointwise_run(const Desc &op, Env &env);

// y = alpha result + beta y, as convolutions do.
void scaled_put(const Tensor &y, Values result, double alpha, double beta, Env &env);
[[noreturn]] void shapes_refuse(const char *what, const std::vector<Tensor> &tensors);

} // namespace softgpu
