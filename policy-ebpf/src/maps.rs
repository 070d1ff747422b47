//! The maps, and how the decision reads them.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_NOEXIST},
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, lpm_trie::Key},
    macros::btf_map,
};
use policy_common::{
    family::{Family, FlowKeyOf, V4, V6},
    reason::Reason,
    table::{
        self, Arrival, Control, Counter, Cut, Endpoint, EndpointCounters, EndpointPolicy, Flow, FlowState, Ident,
        Local, NEARBY_SLOTS, NetIdent, PortEntry, PortKey, PortPlace, REASON_SLOTS, RuleEntry, RuleKey, Tagged,
        local_bit, nearby_slot,
    },
    tables::{Direction, EndpointRow, FamilyTables, Tables},
};

const GROWING: usize = BPF_F_NO_PREALLOC as usize;

#[btf_map(name = "control")]
static CONTROL: Array<Control, 1, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map(name = "endpoints")]
static ENDPOINTS: HashMap<u32, Endpoint, 1024> = HashMap::new();
#[btf_map(name = "nearby")]
static NEARBY: Array<Endpoint, { NEARBY_SLOTS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map(name = "local_bits")]
static LOCAL_BITS: Array<u64, { table::LOCAL_BITS_WORDS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();
#[btf_map(name = "local_v4")]
static LOCAL_V4: HashMap<[u8; 4], Local, 4096> = HashMap::new();
#[btf_map(name = "local_v6")]
static LOCAL_V6: HashMap<[u8; 16], Local, 4096> = HashMap::new();
#[btf_map(name = "ident_v4")]
static IDENT_V4: HashMap<[u8; 4], Ident, 1_048_576, GROWING> = HashMap::new();
#[btf_map(name = "ident_v6")]
static IDENT_V6: HashMap<[u8; 16], Ident, 1_048_576, GROWING> = HashMap::new();
#[btf_map(name = "nets_v4")]
static NETS_V4: LpmTrie<[u8; 4], NetIdent, 65_536> = LpmTrie::new();
#[btf_map(name = "nets_v6")]
static NETS_V6: LpmTrie<[u8; 16], NetIdent, 65_536> = LpmTrie::new();
#[btf_map(name = "rules")]
static RULES: HashMap<RuleKey, RuleEntry, 1_048_576, GROWING> = HashMap::new();
#[btf_map(name = "ports")]
static PORTS: LpmTrie<PortPlace, PortEntry, 262_144> = LpmTrie::new();
#[btf_map(name = "flows_v4")]
static FLOWS_V4: LruHashMap<FlowKeyOf<V4>, Flow, 131_072> = LruHashMap::new();
#[btf_map(name = "flows_v6")]
static FLOWS_V6: LruHashMap<FlowKeyOf<V6>, Flow, 131_072> = LruHashMap::new();
#[btf_map(name = "cuts_v4")]
static CUTS_V4: HashMap<FlowKeyOf<V4>, Cut, 262_144, GROWING> = HashMap::new();
#[btf_map(name = "cuts_v6")]
static CUTS_V6: HashMap<FlowKeyOf<V6>, Cut, 262_144, GROWING> = HashMap::new();
#[btf_map(name = "counters")]
static COUNTERS: PerCpuArray<EndpointCounters, 1024> = PerCpuArray::new();

/// The maps of this object.
pub struct Kernel;

/// Reads a word that others write meanwhile with one load.
#[inline(always)]
fn word<T: Copy>(place: *const T) -> T {
    const { assert!(size_of::<T>() == 8 && align_of::<T>() == 8) }
    // SAFETY: callers pass pointers into map elements, which stay mapped while the program runs (RCU; the memory may
    // be reused for another key, which tags tell). The type has the size and alignment of a u64 and any bytes are
    // valid for it, as for all words of `policy_common::table`.
    unsafe {
        let word = place.cast::<u64>().read_volatile();
        core::mem::transmute_copy(&word)
    }
}

/// A number that is below `BOUND`, a power of two, in a way that the verifier sees too: the compiler knows that enums have
/// small numbers, and leaves out what would tell it.
#[inline(always)]
fn bounded<const BOUND: usize>(mut number: usize) -> usize {
    const { assert!(BOUND.is_power_of_two()) }
    // SAFETY: one `and`.
    unsafe {
        core::arch::asm!(
            "{number} &= {mask}",
            number = inout(reg) number,
            mask = const BOUND - 1,
            options(pure, nomem, nostack),
        );
    }
    number
}

const _: () = {
    assert!(Direction::FromPod as usize == 0 && Direction::ToPod as usize == 1);
    assert!(offset_of!(EndpointPolicy, egress) == 0 && offset_of!(EndpointPolicy, ingress) == size_of::<Tagged>());
    assert!(size_of::<EndpointPolicy>() == 2 * size_of::<Tagged>());
    assert!(offset_of!(EndpointCounters, from_pod) == 0);
    assert!(offset_of!(EndpointCounters, to_pod) == REASON_SLOTS * size_of::<Counter>());
};

/// Writes a word, if it still is the known one (BPF_CMPXCHG, Linux 5.12).
///
/// # Safety
///
/// The place must be a word of a map's element.
#[inline(always)]
unsafe fn exchange(place: *mut FlowState, known: FlowState, new: FlowState) {
    // SAFETY: the type is one aligned word, as `word` asserts; the instruction changes nothing but that word and r0.
    unsafe {
        let [known, new]: [u64; 2] = core::mem::transmute::<[FlowState; 2], _>([known, new]);
        core::arch::asm!(
            "r0 = {known}",
            "r0 = cmpxchg_64({place} + 0, r0, {new})",
            place = in(reg) place,
            known = in(reg) known,
            new = in(reg) new,
            out("r0") _,
            options(nostack),
        );
    }
}

/// An element of `endpoints` or of `nearby`, read field by field.
#[derive(Clone, Copy)]
pub struct Row(*const Endpoint);

impl EndpointRow for Row {
    #[inline(always)]
    fn endpoint(&self) -> Tagged {
        // SAFETY: a pointer from a look-up, see `word`.
        word(unsafe { &raw const (*self.0).endpoint })
    }

    #[inline(always)]
    fn counters(&self) -> u32 {
        // SAFETY: a pointer from a look-up; any bytes are valid.
        unsafe { (*self.0).counters }
    }

    #[inline(always)]
    fn v4(&self) -> [u8; 4] {
        // SAFETY: as in `counters`; at an offset that is a multiple of four.
        unsafe { (&raw const (*self.0).v4).cast::<u32>().read_volatile() }.to_ne_bytes()
    }

    #[inline(always)]
    fn v6(&self) -> [u8; 16] {
        // SAFETY: as in `counters`; at an offset that is a multiple of eight.
        let word = |index| unsafe { (&raw const (*self.0).v6).cast::<u64>().add(index).read_volatile() };
        let words: [u64; 2] = [word(0), word(1)];
        // SAFETY: of the same size, and any bytes are an address.
        unsafe { core::mem::transmute(words) }
    }
}

impl Tables for Kernel {
    type Endpoint = Row;

    #[inline(always)]
    fn commit(&self) -> u64 {
        match CONTROL.get(0) {
            Some(control) => word(&raw const control.commit),
            None => 0,
        }
    }

    #[inline(always)]
    fn endpoint(&self, ifindex: &u32) -> Option<Row> {
        if let Some(nearby) = NEARBY.get_ptr(nearby_slot(*ifindex)) {
            let row = Row(nearby);
            if row.endpoint().tag == *ifindex {
                return Some(row);
            }
        }
        ENDPOINTS.get_ptr(ifindex).map(Row)
    }

    #[inline(always)]
    fn policy(&self, ifindex: &u32, slot: usize, direction: Direction) -> Option<Tagged> {
        let Row(endpoint) = self.endpoint(ifindex)?;
        let index = 2 * bounded::<2>(slot) + bounded::<2>(direction as usize);
        // SAFETY: a pointer from a look-up, see `word`, and an index inside of it, as its layout is asserted.
        Some(word(unsafe { (&raw const (*endpoint).policy).cast::<Tagged>().add(index) }))
    }

    #[inline(always)]
    fn rule(&self, key: &RuleKey) -> Option<RuleEntry> {
        // SAFETY: rows are never changed, and removed only after a grace period since anything pointed at them.
        unsafe { RULES.get(key) }.copied()
    }

    #[inline(always)]
    fn port(&self, key: &PortKey) -> Option<PortEntry> {
        PORTS.get(&Key::new(key.prefix_len, key.place)).copied()
    }

    #[inline(always)]
    fn may_be_local(&self, tag: u32) -> bool {
        let (element, bit) = local_bit(tag);
        // SAFETY: an element of an array, which is never freed, and one aligned word.
        LOCAL_BITS.get_ptr(element).is_none_or(|bits| unsafe { bits.read_volatile() } & bit != 0)
    }

    #[inline(always)]
    fn now_s(&self) -> u32 {
        // SAFETY: an element of an array, which is never freed; the agent stores the number with one write.
        CONTROL.get_ptr(0).map_or(0, |control| unsafe { (&raw const (*control).tick_s).read_volatile() })
    }

    #[inline(always)]
    fn writes(&self) -> u32 {
        // SAFETY: as in `now_s`.
        CONTROL.get_ptr(0).map_or(0, |control| unsafe { (&raw const (*control).writes).read_volatile() })
    }

    #[inline(always)]
    fn count(&self, element: u32, direction: Direction, reason: Reason, bytes: u32) {
        let Some(counters) = COUNTERS.get_ptr_mut(element) else { return };
        let index = bounded::<2>(direction as usize) * REASON_SLOTS + bounded::<REASON_SLOTS>(reason as usize);
        // SAFETY: this CPU's own element, and an index inside of it, as its layout is asserted; a program that interrupts
        // this one may lose a count, no more.
        unsafe {
            let counter = counters.cast::<Counter>().add(index);
            (*counter).packets += 1;
            (*counter).bytes += u64::from(bytes);
        }
    }
}

/// Whether some connection is noted as cut. Nearly always none is, and then a load is all that the question costs.
#[inline(always)]
fn there_are_cuts() -> bool {
    // SAFETY: an element of an array, which is never freed.
    CONTROL.get_ptr(0).is_some_and(|control| unsafe { (&raw const (*control).cuts).read_volatile() } != 0)
}

/// Says that one more was noted; it is in its table already.
#[inline(always)]
fn count_cut() {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: an atomic addition to an aligned word of an array's element, which is never freed.
        unsafe {
            core::arch::asm!(
                "lock *(u32 *)({place} + 0) += {one}",
                place = in(reg) &raw mut (*control).cuts,
                one = in(reg) 1u64,
                options(nostack),
            );
        }
    }
}

macro_rules! family_tables {
    ($family:ty, $local:ident, $ident:ident, $nets:ident, $flows:ident, $cuts:ident) => {
        impl FamilyTables<$family> for Kernel {
            #[inline(always)]
            fn local(&self, address: &<$family as Family>::Addr) -> Option<Local> {
                let local = $local.get_ptr(address)?;
                // The tag and the interface are one word.
                let first: Tagged = word(local.cast());
                // SAFETY: a pointer from a look-up, see `word`.
                let bridge = unsafe { (*local).bridge };
                Some(Local { tag: first.tag, ifindex: first.id, bridge, reserved: 0 })
            }

            #[inline(always)]
            fn ident(&self, address: &<$family as Family>::Addr, slot: usize) -> Option<Tagged> {
                let ident = $ident.get_ptr(address)?;
                // SAFETY: a pointer from a look-up, see `word`; `& 1` keeps the index inside.
                Some(word(unsafe { &raw const (*ident).slots[slot & 1] }))
            }

            #[inline(always)]
            fn net(&self, address: &<$family as Family>::Addr, slot: usize) -> Option<u32> {
                let net = $nets.get(&Key::new(<$family as Family>::BITS, *address))?;
                Some(net.slots[slot & 1])
            }

            #[inline(always)]
            fn flow(&self, key: &FlowKeyOf<$family>) -> Option<Flow> {
                let flow = $flows.get_ptr(key)?;
                // SAFETY: a pointer from a look-up, see `word`.
                let state = word(unsafe { &raw const (*flow).state });
                // SAFETY: as above; of these only `arrival` counts, and says under which commit it does.
                let (seen_s, arrival) = unsafe { ((*flow).seen_s, (*flow).arrival) };
                Some(Flow { state, seen_s, arrival })
            }

            #[inline(always)]
            fn insert_flow(&self, key: &FlowKeyOf<$family>, flow: &Flow) {
                // Another CPU may have been first, and its entry stays.
                let _kept = $flows.insert(key, flow, BPF_NOEXIST.into());
            }

            #[inline(always)]
            fn replace_flow(&self, key: &FlowKeyOf<$family>, flow: &Flow) {
                // A full table of one CPU makes the next packet judge again, no more.
                let _judged_again = $flows.insert(key, flow, 0);
            }

            #[inline(always)]
            fn store_flow_state(&self, key: &FlowKeyOf<$family>, known: FlowState, state: FlowState) {
                if let Some(flow) = $flows.get_ptr_mut(key) {
                    // SAFETY: a pointer from a look-up, see `word`. What is written carries its key's tag, and so did
                    // what it takes the place of.
                    unsafe { exchange(&raw mut (*flow).state, known, state) };
                }
            }

            #[inline(always)]
            fn store_flow_seen(&self, key: &FlowKeyOf<$family>, seen_s: u32, arrival: Arrival) {
                if let Some(flow) = $flows.get_ptr_mut(key) {
                    // SAFETY: a pointer from a look-up; no verdict depends on these but for a look at the source.
                    unsafe {
                        (*flow).seen_s = seen_s;
                        (*flow).arrival = arrival;
                    }
                }
            }

            // Functions of their own: hardly any packet needs them, and their callers have no stack to spare.
            #[inline(never)]
            fn cut(&self, key: &FlowKeyOf<$family>) -> Option<Cut> {
                let cut = there_are_cuts().then(|| $cuts.get_ptr(key)).flatten()?;
                // All of it is one word; whose it is the decision finds out.
                Some(word(cut))
            }

            #[inline(never)]
            fn note_cut(&self, key: &FlowKeyOf<$family>, cut: &Cut) {
                // What does not fit stays cut as long as its flow is known.
                let _noted = $cuts.insert(key, cut, 0);
                count_cut();
            }

            #[inline(never)]
            fn renew_cut(&self, key: &FlowKeyOf<$family>, seen_s: u32) -> bool {
                // In its place: while an element is replaced, others miss it.
                let Some(cut) = there_are_cuts().then(|| $cuts.get_ptr_mut(key)).flatten() else { return false };
                // SAFETY: a pointer from a look-up; if the element has changed hands, another cut is remembered longer.
                unsafe {
                    if (*cut).seen_s != seen_s {
                        (*cut).seen_s = seen_s;
                    }
                }
                true
            }

            #[inline(never)]
            fn forget_cut(&self, key: &FlowKeyOf<$family>) {
                // A look takes no lock, and there hardly ever is one.
                if there_are_cuts() && $cuts.get_ptr(key).is_some() {
                    let _gone = $cuts.remove(key);
                }
            }
        }
    };
}

family_tables!(V4, LOCAL_V4, IDENT_V4, NETS_V4, FLOWS_V4, CUTS_V4);
family_tables!(V6, LOCAL_V6, IDENT_V6, NETS_V6, FLOWS_V6, CUTS_V6);
