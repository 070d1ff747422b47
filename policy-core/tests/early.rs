//! Which addresses are written once, before the flip, and which must wait for it.

use policy_common::table::{IDENTITY_ABSENT, live_slot};
use policy_core::compile::Subjects;
use policy_core::model::{Event, Scope};
use policy_core::node::{Attachment, Node};
use policy_core::plan::{Limits, Plan, Step, TableState, Write};
use policy_core::testing::{PodBuilder, abc, block, namespace, pod, pods, policy, rule};

/// A node with one endpoint, `web`, and three pods of cluster `b`.
fn node() -> (Node, Plan) {
    let web = pod("a/shop/web").labels("app=web").ip("10.1.0.1").node("n");
    let set = abc().scope(Scope::ClusterSet).with(namespace("a/shop")).with(namespace("b/shop"));
    let set = (1..=3).fold(set.with(web.clone()), |set, number| set.with(peer(number, "app=cart")));
    let set = set.with(policy("a/shop/carts").select("app=web").ingress([rule().peer(pods("app=cart"))]));
    let mut node = Node::new(set.config(), Subjects::OnNode("n".into()), TableState::default(), Limits::default());
    node.apply(&set.events());
    node.attach(&web.build().key, Attachment { ifindex: 7, bridge: None });
    let plan = node.settle().expect("there are no limits");
    (node, plan)
}

fn peer(number: u32, labels: &str) -> PodBuilder {
    pod(&format!("b/shop/peer-{number}")).labels(labels).ip(&format!("10.2.0.{number}"))
}

fn then(node: &mut Node, events: &[Event]) -> Plan {
    node.apply(events);
    node.settle().expect("there are no limits")
}

/// The writes of addresses before and after the flip: the address, the identity that packets find until the flip and the
/// one after it, as letters in the order in which they come, `-` for none.
fn writes(plan: &Plan) -> [Vec<String>; 2] {
    let mut seen = vec![IDENTITY_ABSENT];
    let mut letter = |id: u32| {
        let place = seen.iter().position(|known| *known == id).unwrap_or_else(|| {
            seen.push(id);
            seen.len() - 1
        });
        char::from(b"-abcdefgh"[place])
    };
    let flip = plan.steps.iter().position(|step| matches!(step, Step::Flip(_))).unwrap_or(plan.steps.len());
    let live = plan.commit().map_or(0, |commit| 1 - live_slot(commit));
    let (before, after) = plan.steps.split_at(flip);
    [before, after].map(|steps| {
        let writes = steps.iter().filter_map(|step| match step {
            Step::Write(Write::Ident(address, Some(ident))) => {
                Some(format!("{address} {}{}", letter(ident.slots[live].id), letter(ident.slots[1 - live].id)))
            }
            Step::Write(Write::Ident(address, None)) => Some(format!("{address} gone")),
            _ => None,
        });
        writes.collect()
    })
}

/// The steps of a plan in a few words; a commit by how far it goes on.
fn outline(plan: &Plan, commit: u64) -> String {
    let words = plan.steps.iter().map(|step| match step {
        Step::Write(Write::Ident(address, Some(ident))) if ident.slots[0] == ident.slots[1] => format!("{address}"),
        Step::Write(Write::Ident(address, Some(_))) => format!("{address}?"),
        Step::Write(Write::Ident(address, None)) => format!("-{address}"),
        Step::Write(Write::Rule(_, Some(_))) => "row".into(),
        Step::Write(Write::Rule(_, None)) => "-row".into(),
        Step::Write(Write::Endpoint(..)) => "endpoint".into(),
        Step::Flip(next) => format!("flip+{}", next - commit),
        Step::Grace => "grace".into(),
        Step::Write(other) => format!("{other:?}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// A policy of `web` that admits the pods of `app=list` too.
fn lists() -> Event {
    policy("a/shop/lists").select("app=web").ingress([rule().peer(pods("app=list")).ports("TCP/80")]).into()
}

#[test]
fn the_first_plan_writes_each_address_once() {
    let (_, plan) = node();
    assert_eq!(writes(&plan), [vec!["10.2.0.1 aa", "10.2.0.2 aa", "10.2.0.3 aa"], vec![]]);
}

#[test]
fn addresses_that_only_a_new_policy_asks_for_are_written_once() {
    let (mut node, _) = node();
    let others = (4..=5).map(|number| peer(number, "app=list").into());
    then(&mut node, &others.collect::<Vec<_>>());
    assert_eq!(writes(&then(&mut node, &[lists()])), [vec!["10.2.0.4 aa", "10.2.0.5 aa"], vec![]]);
}

#[test]
fn an_address_without_an_entry_is_judged_by_the_block_around_it_until_the_flip() {
    let (mut node, _) = node();
    let block = policy("a/shop/block").select("app=web").ingress([rule().peer(block("10.2.0.4/31", ""))]);
    let others = (4..=6).map(|number| peer(number, "app=list").into());
    then(&mut node, &others.chain([block.into()]).collect::<Vec<_>>());
    let plan = then(&mut node, &[peer(4, "app=cart").into(), peer(6, "app=cart").into()]);
    assert_eq!(writes(&plan), [vec!["10.2.0.4 aa", "10.2.0.6 -b"], vec!["10.2.0.6 bb"]]);
}

#[test]
fn addresses_that_a_policy_in_force_tells_apart_wait_for_the_flip() {
    let (mut node, _) = node();
    let relabelled = (1..=2).map(|number| peer(number, "app=list").into());
    let plan = then(&mut node, &relabelled.collect::<Vec<_>>());
    assert_eq!(writes(&plan), [vec!["10.2.0.1 a-", "10.2.0.2 a-"], vec!["10.2.0.1 gone", "10.2.0.2 gone"]]);
    let back = (1..=2).map(|number| peer(number, "app=cart").into());
    let plan = then(&mut node, &back.collect::<Vec<_>>());
    assert_eq!(writes(&plan), [vec!["10.2.0.1 -a", "10.2.0.2 -a"], vec!["10.2.0.1 aa", "10.2.0.2 aa"]]);
}

/// Its element is replaced whole, and live connections are judged again though the live slot stays.
#[test]
fn an_address_that_moves_alone_is_written_once_between_the_rows_that_it_needs_and_those_that_it_needed() {
    let (mut node, _) = node();
    let other = policy("a/shop/others").select("app=web").ingress([rule().peer(pods("app=list"))]);
    then(&mut node, &[other.into()]);
    let commit = node.tables().commit;
    let plan = then(&mut node, &[peer(1, "app=list").into()]);
    assert_eq!(outline(&plan, commit), "row 10.2.0.1 flip+2");
    let plan = then(&mut node, &[peer(1, "app=none").into()]);
    assert_eq!(outline(&plan, commit + 2), "-10.2.0.1 flip+2 grace -row");
}

#[test]
fn policies_that_change_alone_come_in_force_by_a_flip() {
    let (mut node, _) = node();
    let commit = node.tables().commit;
    let plan = then(&mut node, &[policy("a/shop/silent").select("app=web").no_egress().into()]);
    assert_eq!(outline(&plan, commit), "endpoint flip+1 grace endpoint");
}
