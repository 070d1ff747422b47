//! How much the kernel's tables hold: a plan that does not fit is refused whole.

use std::collections::BTreeMap;
use std::fmt;

use super::{TableState, Write};

/// A table with a limited number of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `endpoints` (and `counters`, which has as many elements).
    Endpoints,
    /// `local_v4`.
    LocalV4,
    /// `local_v6`.
    LocalV6,
    /// `ident_v4`.
    IdentV4,
    /// `ident_v6`.
    IdentV6,
    /// `nets_v4`.
    NetsV4,
    /// `nets_v6`.
    NetsV6,
    /// `rules`.
    Rules,
    /// `ports`.
    Ports,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 9] = [
        Self::Endpoints,
        Self::LocalV4,
        Self::LocalV6,
        Self::IdentV4,
        Self::IdentV6,
        Self::NetsV4,
        Self::NetsV6,
        Self::Rules,
        Self::Ports,
    ];

    /// The map's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Endpoints => "endpoints",
            Self::LocalV4 => "local_v4",
            Self::LocalV6 => "local_v6",
            Self::IdentV4 => "ident_v4",
            Self::IdentV6 => "ident_v6",
            Self::NetsV4 => "nets_v4",
            Self::NetsV6 => "nets_v6",
            Self::Rules => "rules",
            Self::Ports => "ports",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The most elements of each table; a table that is missing has no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// By table.
    pub most: BTreeMap<Table, usize>,
}

/// A plan needs more elements than a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "table {table} is full: the new policy needs {need} elements, {limit} is the limit; the last policy stays in force"
)]
pub struct TableFull {
    /// The table.
    pub table: Table,
    /// How many elements the plan needs at its peak.
    pub need: usize,
    /// How many there can be.
    pub limit: usize,
}

/// The table that a write puts an element into.
fn target(write: &Write) -> Option<Table> {
    let family = |v4: bool, tables: [Table; 2]| if v4 { tables[0] } else { tables[1] };
    match write {
        Write::Endpoint(_, Some(_)) => Some(Table::Endpoints),
        Write::Local(key, Some(_)) => Some(family(key.is_ipv4(), [Table::LocalV4, Table::LocalV6])),
        Write::Ident(key, Some(_)) => Some(family(key.is_ipv4(), [Table::IdentV4, Table::IdentV6])),
        Write::Net(key, Some(_)) => Some(family(key.addr().is_ipv4(), [Table::NetsV4, Table::NetsV6])),
        Write::Rule(_, Some(_)) => Some(Table::Rules),
        Write::Port(_, Some(_)) => Some(Table::Ports),
        Write::Endpoint(_, None)
        | Write::Local(_, None)
        | Write::Ident(_, None)
        | Write::Net(_, None)
        | Write::Rule(_, None)
        | Write::Port(_, None)
        | Write::ClearCounters(_) => None,
    }
}

/// Whether the element that a write puts in place is another one than there were.
fn is_addition(state: &TableState, write: &Write) -> bool {
    match write {
        Write::Endpoint(key, _) => !state.endpoints.contains_key(key),
        Write::Local(key, _) => !state.local.contains_key(key),
        Write::Ident(key, _) => !state.idents.contains_key(key),
        Write::Net(key, _) => !state.nets.contains_key(key),
        Write::Rule(key, _) => !state.rules.contains_key(key),
        Write::Port(key, _) => !state.ports.get(&key.place.table).is_some_and(|table| table.contains_key(key)),
        Write::ClearCounters(_) => false,
    }
}

impl TableState {
    /// How many elements a table has.
    pub fn len(&self, table: Table) -> usize {
        match table {
            Table::Endpoints => self.endpoints.len(),
            Table::LocalV4 => self.local.len_v4(),
            Table::LocalV6 => self.local.len_v6(),
            Table::IdentV4 => self.idents.len_v4(),
            Table::IdentV6 => self.idents.len_v6(),
            Table::NetsV4 => self.nets.keys().filter(|net| net.addr().is_ipv4()).count(),
            Table::NetsV6 => self.nets.keys().filter(|net| net.addr().is_ipv6()).count(),
            Table::Rules => self.rules.len(),
            Table::Ports => self.ports.values().map(BTreeMap::len).sum(),
        }
    }
}

impl Limits {
    /// How many more elements a table takes.
    pub fn room(&self, table: Table, state: &TableState) -> usize {
        self.most.get(&table).map_or(usize::MAX, |most| most.saturating_sub(state.len(table)))
    }

    /// Whether these writes, made in any order before anything is deleted, fit.
    pub fn check(&self, state: &TableState, stage: &[Write]) -> Result<(), TableFull> {
        let mut written = [0; Table::ALL.len()];
        stage.iter().filter_map(target).for_each(|table| written[table as usize] += 1);
        for table in Table::ALL {
            let Some(&limit) = self.most.get(&table) else { continue };
            // Mostly there is room for more than all of them.
            let writes = written[table as usize];
            if writes == 0 || writes <= self.room(table, state) {
                continue;
            }
            let added = stage.iter().filter(|write| target(write) == Some(table) && is_addition(state, write));
            let need = state.len(table) + added.count();
            if need > limit {
                return Err(TableFull { table, need, limit });
            }
        }
        Ok(())
    }
}
