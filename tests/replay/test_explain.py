"""A merge is explained by what was known when it was decided, and by nothing that came later."""

from __future__ import annotations

from domain.commands import UnlinkIdentifier
from domain.identity import Edge
from domain.identity_events import CustomersMerged, IdentifiersLinked
from domain.ids import MergeId, record_stream
from replay.explain import explain_merge
from tests.actors.house import identify, loyalty, person, user, workspace
from tests.projections.histories import History, identifier, record_id
from tests.replay.test_as_of import listed

MERGE_ID = MergeId("00000000-0000-0000-0000-000000000077")
ADA, CARD = identifier("ada@example.com"), identifier("c1", "loyalty_id")


async def test_evidence_is_what_was_linked_before_a_merge_and_by_its_own_decision() -> None:
    history = History()
    history.link(1, ADA)
    before = len(history.entries)
    ends = [record_id(1), record_id(2)]
    merge = CustomersMerged(
        root=ends[0],
        edges=(Edge(merge_id=MERGE_ID, older=ends[0], newer=ends[1]),),
        evidence=(ADA.key, CARD.key),
        component=tuple(ends),
    )
    plain = merge.model_copy(update={"component": ()})
    linked = IdentifiersLinked(source="crm", keys=(CARD.key,), identifiers=(CARD,))
    history.append(
        (record_stream(ends[1]), linked),
        (record_stream(ends[0]), merge),
        (record_stream(ends[1]), plain),
    )
    behind = IdentifiersLinked(source="crm", keys=(ADA.key,), identifiers=(ADA,))
    history.append((record_stream(ends[0]), behind))
    found = await explain_merge(listed(history.entries), MERGE_ID)
    assert found is not None
    assert [(said.key, said.revision) for said in found.evidence] == [
        (ADA.key, before),
        (CARD.key, before + 1),
    ]


async def test_a_link_that_was_taken_back_before_a_merge_is_no_evidence_for_it() -> None:
    async with workspace() as house:
        await house.done(identify(user("ada"), loyalty("card")))
        await house.done(UnlinkIdentifier(**person((loyalty("card"),), {})))
        other = (await house.done(identify(loyalty("card")))).customer_id
        await house.done(identify(user("ada")))
        [merge] = (await house.done(identify(user("ada"), loyalty("card")))).merge_ids
        found = await explain_merge(house.log, MergeId(merge))
        assert found is not None
        holders = {said.key: said.record_id for said in found.evidence}
        assert len(found.evidence) == 2
        assert holders == {user("ada").key: found.root, loyalty("card").key: other}
