//! The rows: every sentence of docs/semantics.md §6–§8 that a packet can show.

mod connections;
mod messages;
mod policies;
mod sources;

use super::{Ip, Policies, Row, Step};

/// All rows, IPv4 and IPv6.
pub fn rows() -> Vec<Row> {
    let mut table = Table::default();
    for ip in [Ip::V4, Ip::V6] {
        table.ip = Some(ip);
        policies::answers(&mut table, ip);
        connections::known(&mut table, ip);
        connections::openers(&mut table, ip);
        policies::commits(&mut table, ip);
        sources::both(&mut table, ip);
        messages::echoes_and_errors(&mut table, ip);
        messages::malformed(&mut table, ip);
    }
    table.ip = Some(Ip::V4);
    sources::only_v4(&mut table);
    table.ip = Some(Ip::V6);
    sources::only_v6(&mut table);
    table.rows
}

#[derive(Default)]
struct Table {
    ip: Option<Ip>,
    rows: Vec<Row>,
}

impl Table {
    fn row(&mut self, claim: &'static str, policies: Policies, steps: impl IntoIterator<Item = Step>) {
        let ip = self.ip.expect("a family is set");
        self.rows.push(Row { claim, ip, policies, steps: steps.into_iter().collect() });
    }
}
