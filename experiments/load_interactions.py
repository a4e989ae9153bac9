"""From records of users and items to a federated task: number, hold out, bound. No TensorFlow.

A named data set brings its catalogue and its range of ratings. For the user's own table both are
declared by --catalogue and --rating_range, or read off the records at the price that the report
states.
"""

import dataclasses
from pathlib import Path
from typing import Any

from absl import flags

from experiments import build_task
from experiments.build_task import LoadedClients
from experiments.component_flags import selected_flags
from experiments.flags_without_effect import PERSONS_ONLY_DECLARED, refuse_flags
from experiments.read_source import read_source, required_column
from experiments.use_case import UseCase
from fl_research.analyses.recommendation_hits import RecommendationHits
from fl_research.argument_checks import require_choice
from fl_research.data.interaction_split import SplitClients, SplitConfig, split_interactions
from fl_research.data.interactions import (
    InteractionColumns,
    Interactions,
    RatingRange,
    read_interactions,
)
from fl_research.data.loaded_records import LoadedRecords
from fl_research.data.preparation import interactions as preparation
from fl_research.data.synthetic import ratings as synthetic_ratings
from fl_research.errors import InputError
from fl_research.objectives.item_ranking import ItemRanking
from fl_research.objectives.objective import Objective
from fl_research.objectives.rating_prediction import RatingPrediction
from fl_research.task import FederatedTask

FLAGS = flags.FLAGS

_FEEDBACK = ("explicit", "implicit")
_MAX_ITEMS = 200
# These say of other use cases who a client is, which clients are tested, or what a column holds.
_NOT_HERE = {
    "test_fraction": "a customer is tested on its own items; give --held_out_fraction, a share of "
    "them",
    "max_rows_per_client": "a customer is one row; give --max_items_per_client",
    "client_column": "the client is the customer; give --user_column",
    "schema": "give --user_column, --item_column, --catalogue and --rating_range",
    "infer_schema": "what --catalogue and --rating_range do not declare is read off the records",
    "label_column": "give --rating_column, or none for what was bought",
    "positive_label": "a rating is a number",
    "drop_columns": "columns that are not named are not read",
    "person_column": PERSONS_ONLY_DECLARED,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Known:
    """What is public of a named data set."""

    columns: InteractionColumns
    rating_range: RatingRange | None = None
    of_catalogue: str = "the shop's own list of items"


_SYNTHETIC_RANGE = RatingRange(lowest=synthetic_ratings.LOWEST, highest=synthetic_ratings.HIGHEST)
_BASKETS = InteractionColumns(user="customer", item="item", time="time", basket="invoice")
_NAMED = {
    "synthetic": _Known(
        columns=InteractionColumns(user="customer", item="item", rating="rating"),
        rating_range=_SYNTHETIC_RANGE,
    ),
    "synthetic_baskets": _Known(columns=_BASKETS),
    "online_retail": _Known(columns=_BASKETS),
    "movielens_100k": _Known(
        columns=InteractionColumns(user="user", item="item", rating="rating", time="time"),
        rating_range=RatingRange(lowest=1.0, highest=5.0),
        of_catalogue="the list of films",
    ),
}


def load_interactions_task(use_case: UseCase, seed: int) -> FederatedTask:
    """Reads the interactions that the flags name, and splits them.

    Args:
      use_case: Names the data sets.
      seed: Of generated data and of all choices at random.

    Raises:
      InputError: Wrong flags or wrong records; says which and the way out.
    """
    _refuse_flags_of_other_use_cases()
    loaded = read_source(use_case, seed)
    known = _known(loaded)
    feedback = _feedback(known)
    read = read_interactions(
        loaded.records, known.columns, rating_range=known.rating_range, items=_catalogue()
    )
    config = _split_config(feedback, read)
    split = split_interactions(read, config, seed=seed)
    test, validation, _ = split.held_out.split(
        validation_fraction=FLAGS.validation_fraction, test_fraction=0.0, seed=seed
    )
    splits = (split.train, validation, test)
    clients = _clients(loaded, known, read, split, config)
    rule = "last basket" if config.held_out == "last_basket" else "random share of items"
    return FederatedTask(
        name=use_case.name,
        train=split.train,
        validation=validation,
        test=test,
        objective=_objective(read, config.max_items),
        unit=clients.unit,
        unit_contains=clients.unit_contains,
        feature_names=(),
        preparation=preparation.settings_of(
            known.columns,
            items=read.items,
            max_items=config.max_items,
            rating_range=read.rating_range,
        ),
        data_facts=build_task.data_facts(clients, splits),
        evaluated_on=f"held-out items ({rule}) of training customers, none of them trained on",
        test_clients_train=True,
        analyses=(RecommendationHits(),) if feedback == "implicit" else (),
    )


def _refuse_flags_of_other_use_cases() -> None:
    """Refuses flags that would have no effect."""
    refuse_flags(_NOT_HERE, "recommendations")
    selected_flags("partition")
    if FLAGS.partition != "natural":
        raise InputError(
            f"--partition={FLAGS.partition} does not go with recommendations: the client is the "
            "customer; leave the flag out"
        )


def _known(loaded: LoadedRecords) -> _Known:
    """Columns and range, by the data set or by the flags."""
    given = _given_range()
    if FLAGS.dataset != "table":
        for flag in ("rating_range", "catalogue", "basket_column"):
            if FLAGS[flag].value is not None:
                raise InputError(
                    f"--{flag} belongs to --dataset=table; {FLAGS.dataset} brings its own, leave "
                    "the flag out"
                )
        known = _NAMED[FLAGS.dataset]
    else:
        frame = loaded.records
        optional = {
            part: required_column(f"{part}_column", frame)
            for part in ("rating", "time", "basket")
            if FLAGS[f"{part}_column"].value is not None
        }
        columns = InteractionColumns(
            user=required_column("user_column", frame),
            item=required_column("item_column", frame),
            **optional,
        )
        known = _Known(columns=columns, rating_range=given)
    if FLAGS.feedback == "implicit":
        columns = dataclasses.replace(known.columns, rating=None)
        known = dataclasses.replace(known, columns=columns, rating_range=None)
    if known.columns.rating is None and given is not None:
        raise InputError(
            "--rating_range has no effect without ratings; leave it out, or give --rating_column"
        )
    return known


def _feedback(known: _Known) -> str:
    """What is learned from, by the flags and the columns."""
    if FLAGS.feedback is None:
        return "implicit" if known.columns.rating is None else "explicit"
    require_choice("feedback", FLAGS.feedback, _FEEDBACK)
    if FLAGS.feedback == "explicit" and known.columns.rating is None:
        raise InputError(
            "--feedback=explicit needs ratings; give --rating_column, or --feedback=implicit"
        )
    return FLAGS.feedback


def _given_range() -> RatingRange | None:
    """The range of --rating_range."""
    given = FLAGS.rating_range
    if given is None:
        return None
    try:
        lowest, highest = (float(value) for value in given)
    except ValueError:
        raise InputError(
            f"--rating_range={','.join(given)} is not two numbers; give such as 1,5"
        ) from None
    return RatingRange(lowest=lowest, highest=highest)


def _catalogue() -> tuple[str, ...] | None:
    """The items of --catalogue, sorted."""
    if FLAGS.catalogue is None:
        return None
    try:
        lines = Path(FLAGS.catalogue).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--catalogue={FLAGS.catalogue} cannot be read ({type(error).__name__}); give a text "
            "file in UTF-8 with one item a line"
        ) from None
    items = sorted({line.strip() for line in lines} - {""})
    if not items:
        raise InputError(f"--catalogue={FLAGS.catalogue} names no item; give one a line")
    return tuple(items)


def _split_config(feedback: str, read: Interactions) -> SplitConfig:
    """How items are held out, by the flags; the newest basket where it is known."""
    by_basket = feedback == "implicit" and "time" in read.frame
    held_out = FLAGS.held_out or ("last_basket" if by_basket else "random")
    if held_out == "last_basket" and feedback == "explicit":
        raise InputError(
            "--held_out=last_basket goes with --feedback=implicit; ratings have no baskets"
        )
    if held_out == "last_basket" and FLAGS.held_out_fraction is not None:
        raise InputError(
            f"--held_out_fraction={FLAGS.held_out_fraction} belongs to --held_out=random; leave it "
            "out"
        )
    settings: dict[str, Any] = {"max_items": FLAGS.max_items_per_client or _MAX_ITEMS}
    if FLAGS.max_items_per_client == 0:
        settings["max_items"] = 0
    if FLAGS.held_out_fraction is not None:
        settings["fraction"] = FLAGS.held_out_fraction
    return SplitConfig(held_out=held_out, **settings)


def _objective(read: Interactions, places: int) -> Objective:
    """What is learned."""
    if read.rating_range is None:
        return ItemRanking(items=read.items, places=places)
    return RatingPrediction(items=read.items, places=places, rating_range=read.rating_range)


def _clients(
    loaded: LoadedRecords,
    known: _Known,
    read: Interactions,
    split: SplitClients,
    config: SplitConfig,
) -> LoadedClients:
    """The clients and what run.json says of them."""
    unit, _ = build_task.unit_words(known.columns.user)
    kept = "the newest" if "time" in read.frame else "chosen at random"
    return LoadedClients(
        clients=split.train,
        unit=unit,
        unit_contains=(
            f"all records of {unit} ({known.columns.user}); at most {config.max_items} items are "
            f"trained on, {kept}"
        ),
        feature_names=(),
        facts=build_task.source_facts(loaded)
        | {"cleaning": {**loaded.cleaning, **read.cleaning, **split.counts}}
        | _facts_of_encoding(known, read),
    )


def _facts_of_encoding(known: _Known, read: Interactions) -> dict[str, Any]:
    """Where the list of items and the range of ratings come from."""
    public, private = [], []
    catalogue = f"the catalogue of {len(read.items):,} items"
    if FLAGS.dataset != "table":
        public.append(f"{catalogue} ({known.of_catalogue})")
    elif FLAGS.catalogue is not None:
        public.append(f"{catalogue} (--catalogue)")
    else:
        private.append(f"{catalogue} (declare it by --catalogue to avoid that)")
    if (bounds := read.rating_range) is not None:
        text = f"the range of the ratings, {bounds.lowest:g} to {bounds.highest:g}"
        if known.rating_range is not None:
            public.append(text)
        else:
            private.append(f"{text} (declare it by --rating_range to avoid that)")
    facts: dict[str, Any] = {"public": public, "items": len(read.items)}
    if private:
        facts["encoding"] = (
            f"{' and '.join(private)} READ OFF THE PRIVATE RECORDS; that access is not covered by ε"
        )
    return facts
