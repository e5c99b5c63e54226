"""From T losses to gradients: the only place that calls autograd.

The update of an optimizer step, over all its micro-batches and ranks, is

    shared parameters:          Σ_t w_t a_t ∂L_t    a = ∂scalar/∂losses of a loss weighting (or a loss transform),
    task t's own parameters:        a_t ∂L_t        w = a gradient method's weights: of the Gramian of all a_t ∂L_t

with `scale_heads` also w_t on a task's own parameters. Where a and w are known beforehand (`PlainSum`, `HeldWeights`),
one pass over the weighted sum is the whole cost. Else, for T tasks, P shared parameters and Z shared features of a
batch, the tasks' gradients are found

    level         by               passes                       numbers held                    numbers all-reduced
    parameters    Jacobian         T over the network           T·P                             T·P
    parameters    LayerGramians    T over its activations       T × (some layers' parameters    none
                                   where that is cheaper        + the others' outputs)
    parameters    RowGramians      1 over its activations       T × (some layers' parameters)   none
                                                                + the others' outputs
    features      Jacobian         T over the heads,            T·Z                             T² + P
                                   1 over the trunk

The second and third are for one process and one micro-batch, the third for tasks whose rows are apart; `TaskGradients`
takes them by itself where it can. All hold P numbers of gradients beside, and all-reduce a number a parameter tensor,
the tasks' losses (T) and weights (T), and the tasks' own gradients. An all-reduce of n numbers over N ranks moves
2·n·(N−1)/N of them out of each rank and as many in, 4 bytes each (8 in float64). Where the weights are held (`every`
above one), a step costs and moves what a plain sum does.
"""
