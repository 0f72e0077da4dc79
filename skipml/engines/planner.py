"""From a query to the query that DuckDB runs: find the model filters, prune each scan, rewrite its table reference."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial

import duckdb

from skipml.bounds.branch import Budget
from skipml.bounds.memory import SHARED
from skipml.decisions import EVALUATE, SKIP, Decisions, prove_keep, prune
from skipml.engines import routes
from skipml.engines.binding import bind_filters
from skipml.engines.conditions import ConditionReader
from skipml.engines.costs import PACES
from skipml.engines.dialect import Node
from skipml.engines.functions import ModelCalls
from skipml.engines.indexes import Indexes
from skipml.engines.marks import with_cases
from skipml.engines.nearest import Nearest, with_report
from skipml.engines.ordering import TopOrder
from skipml.engines.output_names import may_rename, with_names
from skipml.engines.parameters import NotAnalysableError, parameter_literals
from skipml.engines.pull_query import with_answers
from skipml.engines.pulling import BATCHES, FUNCTION, pulled
from skipml.engines.pushdown import ScanFilter
from skipml.engines.query_plan import QueryPlan
from skipml.engines.registry import Registry
from skipml.engines.remote import Stores, is_asked
from skipml.engines.scan_regions import NOWHERE_ELSE, MetadataPlaces, known_of
from skipml.engines.scorers import Scorer
from skipml.engines.session import FileNameTakenError, UserSession
from skipml.engines.shortcuts import Answers, keep_is_worth_work, shorten
from skipml.engines.sql import Parser, Query, Reference, find_references, with_references
from skipml.engines.tree import map_nodes
from skipml.engines.virtual import VirtualFiles
from skipml.engines.visit_query import check_stable, scores_query
from skipml.engines.visits import Visits
from skipml.errors import FileChangedError, FooterError
from skipml.footers import read_footers
from skipml.identity import FileIdentity, expand, is_ambiguous
from skipml.metadata.refine import Refined
from skipml.predicates import Predicate
from skipml.report import Report, ScanReport, VisitReport
from skipml.threshold_search import search_row_groups
from skipml.topk import TopK

_KEEP_SHARE = 1 / 3
"""What part of a budget that work gets."""


@dataclass(slots=True)
class _Found:
    """What planning has found out so far."""

    sql: str | None = None
    scans: list[ScanReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    states: list[tuple[str, FileIdentity]] = field(default_factory=list)
    scoring: str = ""
    variables: Mapping[str, object] = field(default_factory=dict)
    asked: list[tuple[str, FileIdentity]] = field(default_factory=list)

    def rests_on(self, files: Sequence[str], states: Sequence[FileIdentity | None], route: str) -> None:
        """Take note of files, their states and how they are read."""
        for path, state in zip(files, states, strict=True):
            if state is not None:
                is_sure = route == "virtual files" and is_asked(path, state)
                (self.asked if is_sure else self.states).append((path, state))


@dataclass(frozen=True, slots=True)
class _Pruned:
    reference: Reference
    kept: routes.Kept
    report: ScanReport
    answers: Answers | None = None


@dataclass(slots=True)
class Planner:
    """Plans the queries of one connection."""

    parser: Parser
    files: VirtualFiles
    registry: Registry
    scorer: Scorer
    places: MetadataPlaces = NOWHERE_ELSE
    stores: Stores = field(default_factory=Stores)
    indexes: Indexes = field(default_factory=Indexes)
    recall: float | None = None
    """What nearest rows are searched for with; None: exactly."""

    def plan(self, sql: str, parameters: object, session: UserSession) -> QueryPlan:
        """Plan one statement; never raises for what cannot be analysed: the report says why the query runs as it is."""
        started = time.perf_counter()
        notes = list[str]()
        try:
            nearest = Nearest(self.parser, self.indexes, self.registry.functions, self.recall)
            answer = nearest.answer(sql, parameters, session, lambda text, inner: self._planned(text, None, inner))
            if answer is not None:
                described = self.scorer.describe(self.registry.possible(sql))
                return with_report(answer, sql, time.perf_counter() - started, described)
        except NotAnalysableError as reason:
            notes.append(f"no index is asked for the nearest rows: {reason}")
        except duckdb.InterruptException:
            raise
        except Exception as error:
            notes.append(f"no index is asked for the nearest rows: {type(error).__name__}: {error}")
        plan = self._planned(sql, parameters, session)
        return replace(plan, report=replace(plan.report, notes=(*notes, *plan.report.notes))) if notes else plan

    def _planned(self, sql: str, parameters: object, session: UserSession) -> QueryPlan:
        """The plan of one statement by the models that it calls."""
        started = time.perf_counter()
        try:
            try:
                found = self._plan(sql, parameters, session)
            except FileNameTakenError:
                found = self._plan(sql, parameters, replace(session, trusts_names=False))
        except NotAnalysableError as reason:
            found = _Found(notes=[str(reason)])
        except duckdb.InterruptException:
            raise
        except Exception as error:
            # A failure to prune must never fail a query; it is reported and counted.
            found = _Found(notes=[f"pruning failed and was left out: {type(error).__name__}: {error}"])
        scans = found.scans
        counters = {
            "row_groups": sum(len(scan.row_group) for scan in scans),
            "skipped": int(sum((scan.decisions.decision == SKIP).sum() for scan in scans)),
            "rows_unscored": sum(scan.rows_unscored for scan in scans),
            "errors": sum(bool(scan.decisions.error) for scan in scans)
            + sum("pruning failed" in note for note in found.notes),
        }
        seconds = time.perf_counter() - started
        described = (self.scorer.describe(self.registry.possible(sql)), found.scoring)
        report = Report(sql, tuple(scans), tuple(found.notes), seconds, counters, *described)
        return QueryPlan(found.sql, report, tuple(found.states), found.variables, asked=tuple(found.asked))

    def _plan(self, sql: str, parameters: object, session: UserSession) -> _Found:
        query = find_references(self.parser, sql, session)
        if not self.registry.may_call(query.calls):
            return _Found(notes=["no registered model is called"])
        query.references = [r for r in query.references if self._describe(r, session)]
        if not query.references:
            return _Found(notes=["no Parquet file in the query that could be pruned"])
        literals = parameter_literals(parameters)
        bind_filters(self.parser, query, literals, session, self.registry)
        found, pruned = _Found(), list[_Pruned]()
        for reference in query.references:
            ask = partial(scores_query, self.parser, query, reference, literals)
            item = self._first_rows(reference, query.threads, ask, session, found.notes)
            item = item or self._prune(reference, query)
            pruned += [item] if item is not None else []
        nodes: dict[int, Node] = {}
        cases: dict[int, Node] = {}
        for item in pruned:
            answers = item.answers
            kept = replace(item.kept, exactly=answers is not None and answers.are_complete)
            route = routes.choose(self.parser, query, item.reference, kept, self.files)
            short = shorten(self.parser, query, item.reference, route, answers) if answers else None
            rows_unscored = short.rows_unscored if short else 0
            found.scans.append(replace(item.report, route=route.name, rows_unscored=rows_unscored))
            if route.note:
                found.notes.append(route.note)
            node = short.node if short is not None else route.node
            cases |= short.cases if short is not None else {}
            if node is not None:
                nodes[item.reference.number] = node
                found.rests_on(item.kept.files, item.kept.states, route.name)
        if not pruned and not found.notes:
            found.notes.append("no model filters a Parquet scan directly")
        self._choose_scoring(found, sql, query, nodes, session)
        if found.sql is None and nodes:
            found.sql = self._text(sql, query, nodes, cases, session)
        return found

    def _choose_scoring(
        self, found: _Found, sql: str, query: Query, nodes: Mapping[int, Node], session: UserSession
    ) -> None:
        """Find the query that reads pulled batches, and say why where the function is called."""
        if self.scorer.is_native:
            return
        try:
            if any(scan.rows_unscored for scan in found.scans):
                raise NotAnalysableError("row groups are answered without scoring")
            reference = query.references[0]
            footers = read_footers(reference.files, [], strict=True)
            copied = replace(query, tree=map_nodes(query.tree, lambda node: node))
            pull = pulled(
                self.parser,
                copied,
                reference,
                table=nodes.get(reference.number),
                rows=found.scans[0].rows_left if found.scans else int(footers.n_rows.sum()),
                registry=self.registry,
                scorer=self.scorer,
            )
            variables = pull.variables
            session = replace(session, variables={**session.variables, **variables})
            new_sql = self._text(sql, pull.query, {reference.number: pull.node}, {}, session)
            if pull.groups:
                _check_binds(new_sql, session)
        except duckdb.InterruptException:
            raise
        except (NotAnalysableError, FooterError, duckdb.Error) as reason:
            found.scoring = f"{FUNCTION} ({reason})"
            return
        found.sql, found.scoring, found.variables = new_sql, BATCHES, variables
        route = found.scans[0].route if found.scans else ""
        found.rests_on(footers.files, footers.identities, route)  # beside those that decisions rest on

    def _text(
        self, sql: str, query: Query, nodes: Mapping[int, Node], cases: Mapping[int, Node], session: UserSession
    ) -> str:
        """The query with table references and conjuncts replaced by number."""
        may_differ = may_rename(query)
        tree = with_names(self.parser, query)
        tree = with_references(tree, query.references, lambda r: nodes.get(r.number))
        tree = with_answers(self.parser, tree)
        new_sql = self.parser.text(with_cases(tree, cases) if cases else tree)
        if may_differ and session.output_names(sql) != session.output_names(new_sql):
            raise NotAnalysableError("DuckDB does not print the name of an output as it was written; give it a name")
        return new_sql

    def _describe(self, reference: Reference, session: UserSession) -> bool:
        """Bind the reference for its schema; one that cannot be bound, or is neither local nor in a store of which a
        file system is registered, is left alone.
        """
        if all("://" in pattern for pattern in reference.patterns):
            return self.stores.describe(reference, self.parser, self.files)
        if any("://" in pattern or pattern.startswith("~") for pattern in reference.patterns):
            return False
        if not all(os.path.isabs(pattern) for pattern in reference.patterns) and session.search_path():
            return False
        if any(is_ambiguous(pattern) for pattern in reference.patterns):
            return False
        try:
            reference.files = expand(reference.patterns)
            reference.schema = self.parser.describe(reference)
        except (duckdb.Error, NotAnalysableError, FooterError, OSError, UnicodeDecodeError):
            return False  # the last where DuckDB quotes the damaged name of a column
        return True

    @property
    def _places(self) -> MetadataPlaces:
        indexes = tuple(self.indexes.by_name.values())
        return replace(self.places, root=self.stores.root(self.places.root), indexes=indexes)

    def _prune(self, reference: Reference, query: Query) -> _Pruned | None:
        """Decide the row groups of a reference that a model filters; its scans together keep what any of them needs."""
        predicates = [self._predicate(filters) for filters in reference.filters]
        if not predicates or any(predicate is None for predicate, _ in predicates):
            return None
        marks = query.marks if len(predicates) == 1 else {}
        budgets = [self._budget(reader, query.threads) for _, reader in predicates]
        found = [
            self._decide(reference, filters, predicate, reader, budget=budget, marks=marks)
            for filters, (predicate, reader), budget in zip(reference.filters, predicates, budgets, strict=True)
            if predicate is not None
        ]
        refined, decisions, answers = found[0]
        for _, other, _ in found[1:]:
            decisions = decisions.either(other)
        text = " OR ".join(" AND ".join(reader.understood) for _, reader in predicates)
        for budget, (_, reader) in zip(budgets, predicates, strict=True):
            PACES.learn(reader.scored.values(), budget.ledger)
        return replace(_pruned(reference, text, refined, decisions, budgets), answers=answers)

    def _first_rows(
        self,
        reference: Reference,
        threads: int,
        ask: Callable[[TopOrder], str],
        session: UserSession,
        notes: list[str],
    ) -> _Pruned | None:
        """Decide the row groups of a reference of which the first rows by a model's score are wanted; None where that
        is not so, or does not work out: `notes` says why. `ask` makes the query that scores beforehand.
        """
        order = reference.top
        if order is None or not order.k or len(reference.filters) != 1:
            return None
        predicate, reader = self._predicate(reference.filters[0])
        conditions = list(reader.understood)
        score = reader.score(order.key)
        if score is None:
            return None
        try:
            check_stable(order.functions, self.registry, self.parser)
            refined, regions = known_of(reference, reference.filters[0].columns, reader, self._places)
            budget = self._budget(reader, threads)
            where = prune(predicate, regions, budget) if predicate is not None else None
            topk = TopK(score, order.k, order.ascending, order.offset, order.nulls_first, order.breaks_ties)
            visits = Visits.of(cache(partial(ask, order)), reference, refined.row_groups.footers, self.files, session)
            found, decisions = search_row_groups(topk, refined, regions, visits, budget, where=where, leaves_rest=True)
        except duckdb.InterruptException:
            raise
        except (NotAnalysableError, duckdb.Error, FooterError, FileChangedError) as reason:
            notes.append(f"the first rows are not looked for beforehand: {reason}")
            return None
        text = " AND ".join(conditions)
        if not found.waves:
            notes.append("the first rows are not looked for beforehand: the bounds of all row groups are alike")
            return _pruned(reference, text, refined, decisions, [budget]) if where is not None else None
        wanted = order.text.format(reader.text(order.key)) + (f" where {text}" if text else "")
        visited = VisitReport(found.visited, found.waves, found.rows_scored, topk.n, found.is_full, found.threshold)
        pruned = _pruned(reference, wanted, refined, decisions, [budget])
        return replace(pruned, report=replace(pruned.report, visits=visited))

    def _predicate(self, filters: ScanFilter) -> tuple[Predicate | None, ConditionReader]:
        reader = ConditionReader(ModelCalls(self.registry.functions), filters.columns, self.parser.number)
        return reader.predicate(filters.conjuncts), reader

    def _budget(self, reader: ConditionReader, threads: int) -> Budget:
        """What verification may cost, by what scoring does, both as measured."""
        private, functions = self.parser.private, reader.scored.values()
        cost = sum((self.scorer.seconds_per_row(function, threads, private) for function in functions), 0.0)
        return Budget(cost, memory=SHARED, ledger=PACES.ledger(functions))

    def _decide(
        self,
        reference: Reference,
        filters: ScanFilter,
        predicate: Predicate,
        reader: ConditionReader,
        *,
        budget: Budget,
        marks: Mapping[int, set[int]],
    ) -> tuple[Refined, Decisions, Answers | None]:
        """The decisions about row groups, and what they and those about finer blocks answer of a scan; `marks` are
        its numbered conjuncts, if it is the only scan of its reference.
        """
        refined, regions = known_of(reference, filters.columns, reader, self._places)
        decisions = prune(predicate, regions, budget)
        answered = {
            number
            for number, parts in filters.marks.items()
            if reference.number in marks.get(number, ()) and reader.understood_conjuncts.issuperset(parts)
        }
        if answered and keep_is_worth_work(decisions, refined.footers, budget):
            decisions = prove_keep(predicate, regions, budget.part(_KEEP_SHARE), decisions)
        is_any_decided = (decisions.decision != EVALUATE).any()
        can_answer = (
            answered and is_any_decided and not any(refined.footers.errors) and None not in refined.footers.identities
        )
        answers = None
        if can_answer:
            repeated = len(reader.understood) / len(reader.scored) - 1
            answers = Answers(refined.footers, decisions.decision, answered, budget.cost_per_row, repeated)
        if refined.row_groups is not refined and refined.parent is not None:
            decisions = decisions.merged(refined.parent)
        return refined, decisions, answers


def _check_binds(sql: str, session: UserSession) -> None:
    """Raise NotAnalysableError if DuckDB does not take a query."""
    try:
        session.output_names(sql)
    except duckdb.InterruptException:
        raise
    except duckdb.Error as error:
        raise NotAnalysableError("a column may not stand where the model is called") from error


def _pruned(
    reference: Reference, text: str, refined: Refined, decisions: Decisions, budgets: Sequence[Budget]
) -> _Pruned:
    """What is left of a reference by decisions about its row groups, within some budgets."""
    footers = refined.row_groups.footers
    report = ScanReport(
        table=reference.alias,
        predicate=text,
        route="",
        files=footers.files,
        file_index=tuple(footers.file_index.tolist()),
        row_group=tuple(footers.row_group.tolist()),
        n_rows=tuple(footers.n_rows.tolist()),
        decisions=decisions,
        reasons=footers.reasons + refined.notes + footers.texts_told,
        seconds_per_row=sum(budget.cost_per_row for budget in budgets),
        budget_seconds=sum(budget.ledger.granted for budget in budgets if budget.ledger is not None),
    )
    return _Pruned(reference, routes.Kept.of(footers, decisions.decision != SKIP), report)
