//! The table types as aya moves them between the host and the kernel.
#![expect(unsafe_code, reason = "aya's `Pod` is an unsafe trait")]

use aya::Pod;

use crate::driver::Driver;
use crate::table::{
    Control, Cut, Endpoint, EndpointCounters, Flow, FlowKey, Ident, Local, NetIdent, NetKey, PortEntry, PortKey,
    PortPlace, RuleEntry, RuleKey,
};

macro_rules! pod {
    ($($table_type:ty),* $(,)?) => {
        $(
            // SAFETY: `repr(C)`, made of integers, arrays of them and fieldless `repr(u32)` enums, without padding
            // (sizes are asserted in `table`). An enum's other values never stand in a map: only an agent of the same
            // `ABI_VERSION` writes it.
            unsafe impl Pod for $table_type {}
        )*
    };
}

pod!(
    Control,
    Cut,
    Driver,
    Endpoint,
    EndpointCounters,
    Flow,
    FlowKey<[u8; 4]>,
    FlowKey<[u8; 16]>,
    Ident,
    Local,
    NetIdent,
    NetKey<[u8; 4]>,
    NetKey<[u8; 16]>,
    PortEntry,
    PortKey,
    PortPlace,
    RuleEntry,
    RuleKey,
);
