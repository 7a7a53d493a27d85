"""Trains RecBole's model classes as ours are trained: batches, loss, optimiser, choice of the epoch."""

import copy
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import tensorflow as tf
import torch

from benchmarks import machine, recbole_models
from causerec_tf import evaluation
from causerec_tf.data.holdout import EvaluationUsers, evaluation_users
from causerec_tf.data.sequences import Dataset, open_dataset
from causerec_tf.data.windows import training_batches
from causerec_tf.metrics import CUTOFFS
from causerec_tf.optimizers import SparseAdam
from causerec_tf.settings import Settings


class _Ranker:
    """A PyTorch model as `evaluation.rank_users` asks for it."""

    user_tower = SimpleNamespace(num_interests=1)
    trained_items = None  # all
    returns = None  # it learns none

    def __init__(self, model: torch.nn.Module, num_items: int):
        self.num_items = num_items
        self._model = model

    def item_vectors_in_parts(self) -> Iterator[np.ndarray]:
        yield self._model.item_embedding.weight.detach().numpy()[1:]

    def encode(self, history_BL: tf.Tensor) -> tf.Tensor:
        with torch.no_grad():
            return tf.constant(recbole_models.encode(self._model.eval(), history_BL.numpy()).numpy())


def train(settings: Settings, *, is_default: bool, say: Callable[[str], None] = print) -> dict:
    """Trains one model and measures the epoch that was best on the validation users.

    Args:
      settings: of our run; `tower` says which of RecBole's models.
      is_default: dropout, heads and feed-forward width are RecBole's defaults; otherwise those of our
        towers, where there is no dropout.
      say: told about each epoch.

    Returns:
      `seed`, `epochs`, `best_epoch`, `validation`, `test` and `by_epoch`, as in our records. Test users are
      looked at once.
    """
    dataset = open_dataset(settings.dataset)
    model, optimizer = compiled(settings, dataset.num_items, is_default=is_default)
    users = evaluation_users(dataset.read("validation"), settings.max_history)
    choose_by = settings.choose_by
    best: dict = {"number": 0, choose_by: -1.0}
    epochs: list[dict] = []
    while len(epochs) < settings.epochs and len(epochs) - best["number"] < settings.patience:
        started = time.monotonic()
        loss = _train_epoch(model, optimizer, settings, dataset, epoch=len(epochs))
        seconds = time.monotonic() - started
        validation = _measure(model, dataset, users)
        epochs.append({"losses": {"matching": loss}, f"validation_{choose_by}": validation[choose_by]})
        say(f"epoch {len(epochs)} ({seconds:.0f} s): loss {loss:.4f}, {validation[choose_by]:.4f}")
        if validation[choose_by] > best[choose_by]:
            state = copy.deepcopy(model.state_dict())
            best = {"number": len(epochs), "state": state, "validation": validation} | validation
    model.load_state_dict(best["state"])
    return {
        "seed": settings.seed,
        "epochs": len(epochs),
        "best_epoch": best["number"],
        "validation": best["validation"],
        "test": _measure(model, dataset, evaluation_users(dataset.read("test"), settings.max_history)),
        "by_epoch": epochs,
    }


def compiled(
    settings: Settings, num_items: int, *, is_default: bool
) -> tuple[torch.nn.Module, torch.optim.Optimizer]:
    """A new model with the optimiser that ours has: Adam with its constants and coupled weight decay.

    Args:
      settings: of our run; its seed decides the initial weights.
      num_items: V, without padding.
      is_default: as for `train`.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(machine.usable_cores())
    model = _model(settings, num_items, is_default)
    adam = SparseAdam(settings.learning_rate).get_config()
    optimizer = torch.optim.Adam(
        model.parameters(),
        lr=adam["learning_rate"],
        betas=(adam["beta_1"], adam["beta_2"]),
        eps=adam["epsilon"],
        weight_decay=settings.weight_decay,
    )
    return model, optimizer


def step(
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, np.ndarray],
    negatives: np.ndarray | None = None,
) -> float:
    """Takes one step on softmax cross-entropy over the whole catalogue or a sample, the mean of the batch.

    Args:
      model: one of `recbole_models`, in training mode.
      optimizer: of its parameters.
      batch: `history` int [B, L], padded with 0 on the right, and `target` int [B], items 1..V.
      negatives: int [S], items that the batch shares as negatives, where an example's own target is left out;
        None: the whole catalogue.

    Returns:
      The loss before the step.
    """
    users_BD = recbole_models.encode(model, batch["history"])
    target_B = torch.tensor(batch["target"], dtype=torch.long)
    if negatives is None:
        logits_BV = users_BD @ model.item_embedding.weight[1:].T
        target_B = target_B - 1
    else:
        negatives_S = torch.tensor(negatives, dtype=torch.long)
        of_targets_B1 = (users_BD * model.item_embedding(target_B)).sum(dim=1, keepdim=True)
        of_negatives_BS = users_BD @ model.item_embedding(negatives_S).T
        is_target_BS = target_B[:, None] == negatives_S
        of_negatives_BS = of_negatives_BS.masked_fill(is_target_BS, -torch.inf)
        logits_BV = torch.cat([of_targets_B1, of_negatives_BS], dim=1)
        target_B = torch.zeros_like(target_B)
    loss = torch.nn.functional.cross_entropy(logits_BV, target_B)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def _model(settings: Settings, num_items: int, is_default: bool) -> torch.nn.Module:
    width, length = settings.embedding_dim, settings.max_history
    if settings.tower == "gru4rec":
        return recbole_models.gru4rec(num_items, width, dropout=0.3 if is_default else 0.0)
    if is_default:
        return recbole_models.sasrec(
            num_items, width, max_history=length, num_heads=2, inner_width=256, dropout=0.5
        )
    return recbole_models.sasrec(num_items, width, max_history=length)


def _train_epoch(model, optimizer, settings: Settings, dataset: Dataset, *, epoch: int) -> float:
    """Trains on the batches that our run has in this epoch; answers with the mean loss."""
    batches = training_batches(
        dataset,
        batch_size=settings.batch_size,
        max_history=settings.max_history,
        seed=settings.seed,
        epoch=epoch,
    )
    model.train()
    return float(np.mean([step(model, optimizer, batch) for batch in batches.as_numpy_iterator()]))


def _measure(model: torch.nn.Module, dataset: Dataset, users: EvaluationUsers) -> dict[str, float]:
    ranker = _Ranker(model, dataset.num_items)
    k = max(CUTOFFS)
    return evaluation.figures(evaluation.rank_users(ranker, users, k, exclude_seen=False), users)
