"""Slow NumPy twins of the formulas, straight from the paper. Imports nothing of the project."""

import datetime
import math

import numpy as np


def sampled_softmax(
    users, targets, negatives, target_ids, negative_ids, log_q_target=None, log_q=None, t=1.0
):
    """Equations 2 and 3 over the target and the negatives that are not it; float64 [B]."""
    values = []
    for b, user in enumerate(users.astype(np.float64)):
        positive = user @ targets[b] / t - (0.0 if log_q_target is None else log_q_target[b])
        logits = [positive]
        for s, negative in enumerate(negatives):
            if negative_ids[s] != target_ids[b]:
                logits.append(user @ negative / t - (0.0 if log_q is None else log_q[s]))
        logits = np.array(logits)
        values.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - positive)
    return np.array(values)


def cosine_contrastive(users, targets, negatives, target_ids, negative_ids, margin, weight):
    """SimpleX's equation 2, of vectors of length one; a negative that is the target adds nothing."""
    losses = []
    for user, target, target_id in zip(users, targets, target_ids, strict=True):
        pushed = [
            max(0.0, float(np.dot(user, negative)) - margin) if negative_id != target_id else 0.0
            for negative, negative_id in zip(negatives, negative_ids, strict=True)
        ]
        losses.append(1.0 - float(np.dot(user, target)) + weight * sum(pushed) / len(pushed))
    return np.array(losses)


def return_features(history, similarities):
    """Features of each distinct item of one history, by the position where it stands last."""
    n, distinct = len(history), len(set(history))
    features = {}
    for item in set(history):
        last = max(position for position, other in enumerate(history) if other == item)
        age = n - 1 - last
        features[last] = [
            math.log(history.count(item)),
            math.log(1 + age),
            float(age == 0),
            math.log(n),
            1 - distinct / n,
            similarities[last],
        ]
    return features


def softmax_with_returns(user, target, others, history, target_id, other_ids, terms, log_share, temperature):
    """One example: the target among the sample and the distinct items of its own history; what r learns by.

    `history` is item -> vector, `terms` item -> r. A sampled item of the history does not count as sampled.
    """
    mine = user @ target / temperature + terms.get(target_id, 0.0)
    logits = [mine]
    for vector, item in zip(others, other_ids, strict=True):
        if item != target_id and item not in history:
            logits.append(user @ vector / temperature)
    for item, vector in history.items():
        if item != target_id:
            logits.append(user @ vector / temperature + terms[item] + log_share)
    return math.log(sum(math.exp(logit) for logit in logits)) - mine


def softmax_of_new(user, target, others, history, target_id, other_ids, temperature):
    """One example: the target among the sampled items that are new to the user; what vectors learn by."""
    mine = user @ target / temperature
    logits = [mine]
    for vector, item in zip(others, other_ids, strict=True):
        if item != target_id and item not in history:
            logits.append(user @ vector / temperature)
    return math.log(sum(math.exp(logit) for logit in logits)) - mine


def contrast_with_observation(user, positives, negatives, positive_exists, negative_exists):
    """Equation 9 for one example: user [d], positives [M, d], negatives [N, d]."""
    total = 0.0
    for positive in positives[positive_exists]:
        for negative in negatives[negative_exists]:
            total += max(np.linalg.norm(user - positive) - np.linalg.norm(user - negative) + 1.0, 0.0)
    return total


def contrast_with_items(target, positives, negatives, positive_exists, negative_exists):
    """Equation 10 for one example."""

    def unit(vector):
        return vector / np.linalg.norm(vector)

    total = sum(1.0 - unit(p) @ unit(target) for p in positives[positive_exists])
    return total + sum(max(0.0, unit(n) @ unit(target) - 0.5) for n in negatives[negative_exists])


def mean_pooling_mlp(concepts, kernels, biases):
    """Equation 4 for one history without padding: concepts [n, d]."""
    vector = concepts.mean(axis=0) if len(concepts) else np.zeros(concepts.shape[1])
    for layer, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        vector = vector @ kernel + bias
        if layer < len(kernels) - 1:
            vector = np.maximum(vector, 0.0)
    return vector


def halves(scores):
    """Section 3.3.2 for one history without padding: positions of the two halves, best first."""
    order = sorted(range(len(scores)), key=lambda position: (-scores[position], position))
    cut = math.ceil(len(scores) / 2)
    return order[:cut], order[cut:]


class Adam:
    """Adam with coupled weight decay on a table of which only some rows are touched at a step."""

    def __init__(self, table, learning_rate, beta_1, beta_2, epsilon, l2):
        self.table = table.astype(np.float64).copy()
        self.m = np.zeros_like(self.table)
        self.v = np.zeros_like(self.table)
        self.step = 0
        self.constants = learning_rate, beta_1, beta_2, epsilon, l2

    def update(self, rows, gradients):
        """One step with gradients [n, d] of rows [n], in which a row may stand several times."""
        rate, beta_1, beta_2, epsilon, l2 = self.constants
        self.step += 1
        rate *= math.sqrt(1 - beta_2**self.step) / (1 - beta_1**self.step)
        for row in sorted(set(rows)):
            gradient = sum(g for r, g in zip(rows, gradients, strict=True) if r == row)
            gradient = gradient + l2 * self.table[row]
            self.m[row] = beta_1 * self.m[row] + (1 - beta_1) * gradient
            self.v[row] = beta_2 * self.v[row] + (1 - beta_2) * gradient**2
            self.table[row] -= rate * self.m[row] / (np.sqrt(self.v[row]) + epsilon)


def top_k(users, items, k, excluded=None):
    """Exact ranking: users [B, d] or [B, K, d], items [V, d]; lists of item numbers from 1."""
    answers = []
    for b, user in enumerate(users):
        scores = (np.atleast_2d(user) @ items.T).max(axis=0)
        left = [v for v in range(len(items)) if excluded is None or v + 1 not in set(excluded[b])]
        answers.append([v + 1 for v in sorted(left, key=lambda v: (-scores[v], v))[:k]])
    return answers


def ranking_metrics(ranked, targets, k):
    """Recall, the three NDCGs, hit rate and reciprocal rank at k of one user, from their definitions."""
    top = list(ranked[:k])
    hits = [item for item in top if item in targets]

    def ideal(count):
        return sum(1 / math.log2(rank + 1) for rank in range(1, count + 1))

    by_rank = sum(1 / math.log2(top.index(item) + 2) for item in hits)
    by_place = sum(1 / math.log2(list(targets).index(item) + 2) for item in hits)
    return {
        "recall": len(hits) / len(targets),
        "ndcg": by_rank / ideal(min(k, len(targets))),
        "ndcg_hits": by_rank / ideal(len(hits)) if hits else 0.0,
        "ndcg_target_order": by_place / ideal(len(hits)) if hits else 0.0,
        "hr": float(bool(hits)),
        "mrr": 1 / (top.index(hits[0]) + 1) if hits else 0.0,
    }


def list_metrics(lists, counts, k):
    """Coverage, popularity and novelty of lists without padding, cut at k; the first count is item 1's."""
    lists = [row[:k] for row in lists]
    total = sum(counts)

    def mean(values):
        return sum(values) / len(values)

    return {
        "coverage": len({item for row in lists for item in row}) / len(counts),
        "popularity": mean([mean([counts[item - 1] for item in row]) for row in lists]),
        "novelty": mean([mean([-math.log2(max(counts[v - 1], 1) / total) for v in row]) for row in lists]),
    }


def own_past(history, by_popularity):
    """A user's items by how often they were taken, then by how late; behind them the popular ones."""
    last = {item: place for place, item in enumerate(history)}
    own = sorted(last, key=lambda item: (-history.count(item), -last[item]))
    return own + [item for item in by_popularity if item not in own]


def cosines(interactions):
    """Of the columns of a dense matrix, float [users, items]; 0 with a column of nothing."""
    lengths = np.linalg.norm(interactions.astype(np.float64), axis=0)
    lengths[lengths == 0] = 1
    return interactions.T.astype(np.float64) @ interactions / np.outer(lengths, lengths)


def vsknn(history, others, num_items, num_neighbours):
    """V-SKNN's scores of all items for one history, by loops; `others` are the lists of training users."""
    weight = {item: (place + 1) / len(history) for place, item in enumerate(history)}
    similar = [sum(weight[item] for item in set(other) & set(weight)) for other in others]
    order = sorted(range(len(others)), key=lambda user: (-similar[user], user))
    scores = np.zeros(num_items)
    for user in order[:num_neighbours]:
        shared = set(others[user]) & set(weight)
        for item in set(others[user]):
            scores[item - 1] += similar[user] * max([weight[one] for one in shared], default=0.0)
    return scores


def ease_weights(interactions, l2):
    """EASE's weights of a dense matrix: the minimum of |X - X B|^2 + l2 |B|^2, each column without itself."""
    x = interactions.astype(np.float64)
    num_items = x.shape[1]
    weights = np.zeros([num_items, num_items])
    for item in range(num_items):
        others = [other for other in range(num_items) if other != item]
        gram = x[:, others].T @ x[:, others] + l2 * np.eye(num_items - 1)
        weights[others, item] = np.linalg.solve(gram, x[:, others].T @ x[:, item])
    return weights


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def gru_state(concepts, kernel, recurrent, bias):
    """The state after the last of concepts [n, d]; gates z, r, c side by side, biases of x and of the state.

    Cho et al. (2014) with the reset gate on the product of state and weights.
    """
    width = len(recurrent)
    w_z, w_r, w_c = np.split(kernel, 3, axis=1)
    u_z, u_r, u_c = np.split(recurrent, 3, axis=1)
    (b_z, b_r, b_c), (a_z, a_r, a_c) = np.split(bias[0], 3), np.split(bias[1], 3)
    state = np.zeros(width)
    for x in concepts:
        z = sigmoid(x @ w_z + b_z + state @ u_z + a_z)
        r = sigmoid(x @ w_r + b_r + state @ u_r + a_r)
        candidate = np.tanh(x @ w_c + b_c + r * (state @ u_c + a_c))
        state = z * state + (1 - z) * candidate
    return state


def softmax(logits):
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def layer_norm(vector, gamma, beta, epsilon=1e-8):
    return gamma * (vector - vector.mean()) / np.sqrt(vector.var() + epsilon) + beta


def sasrec_block(x, block, num_heads=1):
    """A block of Kang and McAuley, normalised first: x [n, d], each position for itself."""

    def heads(vectors):
        return np.split(vectors, num_heads, axis=-1)

    normed = np.array([layer_norm(one, *block["attention_norm"]) for one in x])
    query, key, value = (heads(normed @ kernel + bias) for kernel, bias in block["query_key_value"])
    made = []
    for place in range(len(x)):
        attended = []
        for q, k, v in zip(query, key, value, strict=True):
            logits = k[: place + 1] @ q[place] / math.sqrt(q.shape[1])
            attended.append(softmax(logits) @ v[: place + 1])
        vector = x[place] + np.concatenate(attended)
        hidden = layer_norm(vector, *block["feed_forward_norm"])
        (kernel_1, bias_1), (kernel_2, bias_2) = block["feed_forward"]
        made.append(vector + np.maximum(hidden @ kernel_1 + bias_1, 0) @ kernel_2 + bias_2)
    return np.array(made)


def attention(asking, keys, values, num_heads):
    """The answer to one position that asks, [d], from what it may look at, [n, d]."""
    parts = zip(*(np.split(one, num_heads, axis=-1) for one in (asking, keys, values)), strict=True)
    return np.concatenate([softmax(k @ q / math.sqrt(len(q))) @ v for q, k, v in parts])


def ligr_block(x, block, num_heads=1):
    """RecTools' LiGRLayer: x [n, d], each position for itself; torch's normalisation has epsilon 1e-5."""
    normed = np.array([layer_norm(one, *block["attention_norm"], epsilon=1e-5) for one in x])
    query, key, value = (normed @ kernel + bias for kernel, bias in block["query_key_value"])
    made = []
    for place, before in enumerate(x):
        kernel, bias = block["projection"]
        attended = attention(query[place], key[: place + 1], value[: place + 1], num_heads) @ kernel + bias
        kernel, bias = block["attention_gate"]
        vector = before + sigmoid(before @ kernel + bias) * attended
        normed_vector = layer_norm(vector, *block["feed_forward_norm"], epsilon=1e-5)
        gated = normed_vector @ block["hidden"]
        hidden = gated * sigmoid(gated) * (normed_vector @ block["hidden_gate"])
        kernel, bias = block["feed_forward_gate"]
        made.append(vector + sigmoid(vector @ kernel + bias) * (hidden @ block["output"]))
    return np.array(made)


def low_pass(x, c):
    """What BSARec's FrequencyLayer keeps of x [L, d]."""
    terms = np.fft.rfft(x, axis=0, norm="ortho")
    terms[c // 2 + 1 :] = 0
    return np.fft.irfft(terms, n=len(x), axis=0, norm="ortho")


def bsarec_block(x, num_padding, block, *, alpha, c, num_heads=1, low=None):
    """BSARecBlock on x [L, d], of which the first `num_padding` positions are padding.

    Its mask adds -10,000 to what may not be seen. Where that is everything, it changes nothing. `low` takes
    the place of what its filter keeps.
    """

    def norms(vectors, name):
        return np.array([layer_norm(one, *block[name], epsilon=1e-12) for one in vectors])

    low = low_pass(x, c) if low is None else low
    filtered = norms(low + block["beta"] ** 2 * (x - low) + x, "filter_norm")
    query, key, value = (x @ kernel + bias for kernel, bias in block["query_key_value"])
    attended = []
    for place in range(len(x)):
        seen = slice(num_padding, place + 1) if place >= num_padding else slice(None)
        attended.append(attention(query[place], key[seen], value[seen], num_heads))
    kernel, bias = block["projection"]
    attended = norms(np.array(attended) @ kernel + bias + x, "attention_norm")
    mixed = alpha * filtered + (1 - alpha) * attended
    (kernel_1, bias_1), (kernel_2, bias_2) = block["feed_forward"]
    hidden = mixed @ kernel_1 + bias_1
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return norms(hidden @ kernel_2 + bias_2 + mixed, "feed_forward_norm")


def squash(z):
    squared = z @ z
    return squared / (1 + squared) * z / math.sqrt(squared) if squared else z


def routing(votes, logits):
    """Three iterations of dynamic routing: votes [K, n, d] for the interests, logits [K, n] at first."""
    num_interests, num_items = logits.shape
    logits = logits.astype(np.float64).copy()
    for iteration in range(3):
        weights = np.array([softmax(logits[:, item]) for item in range(num_items)]).T
        sums = [sum(weights[k, i] * votes[k, i] for i in range(num_items)) for k in range(num_interests)]
        capsules = [squash(one) for one in sums]
        if iteration < 2:
            for k in range(num_interests):
                for item in range(num_items):
                    logits[k, item] += capsules[k] @ votes[k, item]
    return np.array(capsules)


def self_attentive_interests(concepts, positions, w_1, w_2, b_1=0.0, b_2=0.0):
    """ComiRec-SA for one history: `A = softmax(W_2 tanh(W_1 (X + P)))` over the items, `A X`."""
    logits = np.tanh((concepts + positions[: len(concepts)]) @ w_1 + b_1) @ w_2 + b_2
    return np.array([softmax(column) @ concepts for column in logits.T])


def label_aware_attention(interests, target, power):
    """MIND, for one user: interests [K, d]; a power keeps the sign, that of 0 is 1 for all."""
    fit = interests @ target
    powered = np.sign(fit) * np.abs(fit) ** power if power else np.ones(len(fit))
    return softmax(powered) @ interests


def interest_concepts(items, w_1, w_2):
    """Equations 6 and 7 for one history without padding: items [n, d] -> A [n, K] and C [K, d]."""
    logits = w_2.T @ np.tanh(w_1.T @ items.T)  # [K, n]
    weights = np.array([softmax(row) for row in logits]).T
    return weights, weights.T @ items


def interest_scores(items, weights, target):
    """Equation 8: `A^T phi(X, y)`."""
    return weights.T @ np.array([item @ target for item in items])


def categorical_feature(value, table):
    return table[value]


def multi_feature(values, table):
    """The mean over the distinct values of a row; 0 fills up."""
    real = {int(value) for value in values if value}
    return sum(table[value] for value in real) / len(real) if real else table[0]


def numeric_feature(value, mean, deviation, direction, missing):
    if math.isnan(value):
        return missing
    return min(max((value - mean) / deviation, -5.0), 5.0) * direction


def moment_row(kind, time, other=0):
    """The table's row for a time in seconds, by the calendar; `other`: the event before, or the request."""
    if time == 0 or (kind in ("gap", "age") and other == 0):
        return 0
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=int(time))
    if kind == "hour":
        return 1 + moment.hour
    if kind == "weekday":
        return 1 + moment.weekday()
    seconds = int(time - other) if kind == "gap" else int(other - time)
    return 1 + min(len(format(seconds, "b")), 32) if seconds > 0 else 1
