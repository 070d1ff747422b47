//! `policyctl explain`.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::ask::AskOptions;
use super::output::{Card, bad, good, lines, short_policy};
use super::services::behind;
use crate::api::types::{Decision, End, ExplainRequest, Explanation, Family, Party, Request, Verdict};

const EXAMPLES: &str = "\
Examples:
  policyctl explain cluster-a/shop/web-1 cluster-b/db/pg-0 tcp/5432
  policyctl explain 10.2.0.7 cluster-a/shop/web-1 icmp
  policyctl explain -6 cluster-a/shop/web-1 2001:db8::1 udp/53 -o yaml

Each end of a connection is decided on the node of its pod, by the policies of its own cluster; this asks one agent, which
says what it decides, and names who decides the rest.";

/// Which connection.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub struct Options {
    /// Who opens the connection: CLUSTER/NAMESPACE/POD, or an address.
    from: String,
    /// Who is asked: CLUSTER/NAMESPACE/POD, or an address; one of a Service says who stands behind it.
    to: String,
    /// What is asked: tcp/PORT, udp/PORT, sctp/PORT or icmp.
    #[arg(value_name = "PROTO/PORT")]
    transport: String,
    /// Judge IPv6 where both ends have both families.
    #[arg(short = '6', long)]
    ipv6: bool,
    #[command(flatten)]
    ask: AskOptions,
}

/// Explains it.
pub fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let request = ExplainRequest {
        from: options.from.clone(),
        to: options.to.clone(),
        transport: options.transport.clone(),
        family: options.ipv6.then_some(Family::IPv6),
    };
    options.ask.ask(&Request::Explain(request), text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(explanation: &Explanation) -> String {
    let Explanation { from, to, transport, verdict, egress, ingress, service } = explanation;
    let mut card = Card::new();
    let asked = format!("{} → {}, {transport}", named(from), named(to));
    card.line("connection", asked);
    card.line(
        "verdict",
        match verdict {
            Some(Verdict::Allow) if both_decided(egress, ingress) => good("allow"),
            Some(Verdict::Allow) => good("allow, as far as this node decides it"),
            Some(Verdict::Deny) => bad("deny"),
            None => comfy_table::Cell::new("this node decides neither end"),
        },
    );
    end(&mut card, "egress", egress);
    end(&mut card, "ingress", ingress);
    if let Some(service) = service {
        behind(&mut card, service);
    }
    card.line("source", identity(from));
    card.line("destination", identity(to));
    card.text()
}

fn both_decided(egress: &End, ingress: &End) -> bool {
    matches!((egress, ingress), (End::Decided(_), End::Decided(_)))
}

fn named(party: &Party) -> String {
    party.pod.as_ref().map_or_else(|| party.address.to_string(), |pod| format!("{pod} ({})", party.address))
}

fn end(card: &mut Card, name: &str, end: &End) {
    let decision = match end {
        End::Elsewhere { decided } => return card.line(name, format!("not decided here: {decided}")),
        End::Decided(decision) => decision,
    };
    let said = said(decision);
    card.line(name, if decision.verdict == Verdict::Allow { good(said) } else { bad(said) });
    if decision.isolated {
        card.line("", format!("isolated by {}", short(&decision.isolated_by)));
    }
    for finding in &decision.findings {
        card.line("", format!("- {} {}: {}", short_policy(&finding.policy), finding.field, finding.message));
    }
    if let Some(remedy) = &decision.remedy {
        card.line("", remedy.as_str());
    }
}

fn short(policies: &[String]) -> String {
    policies.iter().map(|name| short_policy(name)).collect::<Vec<_>>().join(", ")
}

fn said(decision: &Decision) -> String {
    let Decision { verdict, reason, policy, rule, .. } = decision;
    let mut said = verdict.as_str().to_owned();
    match (policy, rule, reason.as_str()) {
        (Some(policy), Some(rule), _) => drop(write!(said, ": {rule} of {}", short_policy(policy))),
        (_, _, "no_rule") => said.push_str(": isolated, and no rule allows it"),
        (_, _, "not_isolated") => said.push_str(": no policy isolates the pod in this direction"),
        (_, _, "self") => said.push_str(": a pod may always talk to itself"),
        (_, _, "node") => said.push_str(": a node may always talk to its own pods"),
        (_, _, "hold") => said.push_str(": held until its policy is in force"),
        (_, _, reason) => drop(write!(said, ": {reason}")),
    }
    said
}

fn identity(party: &Party) -> String {
    match party.identity {
        0 => "identity 0: no live rule on this node asks about it".to_owned(),
        id => format!("identity {id}: {}", lines(&party.facets).replace('\n', "; ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::Finding;

    #[test]
    fn a_denial_says_what_would_have_to_change() {
        let party = |pod: &str, address: &str, identity, facets: &[&str]| Party {
            pod: Some(pod.to_owned()),
            address: address.parse().expect("an address"),
            identity,
            facets: facets.iter().map(ToString::to_string).collect(),
        };
        let explanation = Explanation {
            from: party("b/db/pg", "10.2.0.5", 0, &[]),
            to: party("a/shop/web", "10.1.0.1", 3, &["pods{app=web} in namespace shop of the local cluster"]),
            transport: "TCP/80".to_owned(),
            verdict: Some(Verdict::Deny),
            egress: End::Elsewhere { decided: "in b, by its own policies; ask an agent there".to_owned() },
            ingress: End::Decided(Box::new(Decision {
                verdict: Verdict::Deny,
                reason: "no_rule".to_owned(),
                isolated: true,
                policy: None,
                rule: None,
                isolated_by: vec!["a/NetworkPolicy/shop/web".to_owned()],
                findings: vec![Finding {
                    policy: "a/NetworkPolicy/shop/web".to_owned(),
                    field: "spec.ingress[0].from[0]".to_owned(),
                    message: "needs pod label app=api (it is \"pg\")".to_owned(),
                }],
                remedy: Some("to allow it, add …".to_owned()),
            })),
            service: None,
        };
        let expected = "
 connection   b/db/pg (10.2.0.5) → a/shop/web (10.1.0.1), TCP/80
 verdict      deny
 egress       not decided here: in b, by its own policies; ask an agent there
 ingress      deny: isolated, and no rule allows it
              isolated by shop/web
              - shop/web spec.ingress[0].from[0]: needs pod label app=api (it is \"pg\")
              to allow it, add …
 source       identity 0: no live rule on this node asks about it
 destination  identity 3: pods{app=web} in namespace shop of the local cluster
";
        assert_eq!(format!("\n{}", text(&explanation)), expected);
    }
}
