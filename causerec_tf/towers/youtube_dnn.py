"""YouTube DNN (Covington et al., RecSys 2016), in the form in which it is compared with."""

from causerec_tf.towers.pooling import MeanPoolingTower


class YouTubeDNNTower(MeanPoolingTower):
    """`f(x) = W mean(x) + b`: the mean of the real concepts and one linear layer, d -> d.

    Covington et al. put a tower of three ReLU layers on the mean of the watched items and on features of
    the user. The comparisons of multi-interest retrieval (Cen et al., ComiRec, KDD 2020, whose code has it
    as `Model_DNN`), which the paper's table follows, keep of it what their logs have features for: mean
    pooling and one dense layer without activation. That is what this is. It differs from the base model by
    its depth only: that one has two hidden ReLU layers of 256 between the mean and the user vector.
    """

    def __init__(self, embedding_dim: int, *, seed: int = 0, **kwargs):
        """Makes the layer.

        Args:
          embedding_dim: d, of the concepts and of the user vector.
          seed: of the initial weights.
          **kwargs: of the Keras layer; a `dtype` of mixed precision holds for the layer's product.
        """
        super().__init__(embedding_dim, hidden_units=(), seed=seed, **kwargs)
