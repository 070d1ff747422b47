//! The layout of every table that the agent writes and the kernel programs read: the ABI between the two.
//!
//! Each pointer that a commit can move has two *slots*; the low bit of [`Control::commit`] says which one is live.
//! A slot is one aligned 8-byte word that carries a tag of its key, because the kernel reuses the memory of deleted
//! and replaced elements at once (kernel/bpf/hashtab.c): a reader compares the tag before it believes the word.

use core::mem::offset_of;

/// Moves whenever the layout of a table does.
pub const ABI_VERSION: u32 = 5;

/// The identity of an address that no facet matches: nobody, the world.
pub const IDENTITY_WORLD: u32 = 0;
/// In a slot of an exact address: as if the entry did not exist, so the covering prefix decides.
pub const IDENTITY_ABSENT: u32 = u32::MAX;
/// The policy of a direction that no policy isolates.
pub const POLICY_OPEN: u32 = 0;
/// The policy of an endpoint that waits for its first commit: denies what policies could allow.
pub const POLICY_HOLD: u32 = u32::MAX;
/// In the number of a policy: it has a row for [`IDENTITY_WORLD`]. Without this bit nobody looks for one.
pub const POLICY_HAS_WORLD: u32 = 1;
/// The rule of a verdict that no rule gave.
pub const RULE_NONE: u32 = 0;
/// In [`Local::ifindex`]: an address of the node itself.
pub const IFINDEX_HOST: u32 = 0;

/// One word of two parts that are read and written together.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tagged {
    /// Says whose word this is; what it holds, each table says.
    pub tag: u32,
    /// The number pointed at.
    pub id: u32,
}

/// The single element of `control`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Counts commits; its low bit is the live slot.
    pub commit: u64,
    /// The [`ABI_VERSION`] of who made the tables.
    pub abi: u32,
    /// How many seconds the agent has run, over all its runs: the clock by which flows grow old. It stands still while
    /// nobody sweeps.
    pub tick_s: u32,
    /// Goes on by one before the agent writes to tables, and by one after it: odd meanwhile, and after an agent that died
    /// meanwhile.
    pub writes: u32,
    /// How many connections were ever noted as cut, or zero since none is: then nobody needs to look for one.
    pub cuts: u32,
}

/// Which slot a commit reads.
pub const fn live_slot(commit: u64) -> usize {
    (commit & 1) as usize
}

/// The policies of an endpoint, by direction; each is tagged with the endpoint's id.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EndpointPolicy {
    /// For connections that the endpoint opens.
    pub egress: Tagged,
    /// For connections that it accepts.
    pub ingress: Tagged,
}

/// An element of `endpoints`, by ifindex; and of `nearby`, by [`nearby_slot`] of the ifindex, where no hash is in the way. An
/// endpoint whose slot another one has is found in `endpoints` alone.
///
/// In `nearby`, `endpoint` is written last and cleared first, and no other endpoint comes into a slot before a grace period has
/// passed since: whoever reads the same word before and after what never changes has read what belongs together. Policies
/// change, each in its word, which says whose it is.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The endpoint's id, another pod's only once no flow has it; tagged with the ifindex.
    pub endpoint: Tagged,
    /// Its element of `counters`.
    pub counters: u32,
    /// Which of the addresses exist: [`HAS_V4`], [`HAS_V6`].
    pub flags: u32,
    /// Its IPv6 address, unspecified where it has none.
    pub v6: [u8; 16],
    /// Its IPv4 address, unspecified where it has none.
    pub v4: [u8; 4],
    /// Zero.
    pub reserved: u32,
    /// Its policies, in two slots.
    pub policy: [EndpointPolicy; 2],
}

/// How many slots `nearby` has: far more than a node has pods, so that few share one.
pub const NEARBY_SLOTS: u32 = 4096;

/// The slot of an interface.
pub const fn nearby_slot(ifindex: u32) -> u32 {
    ifindex & (NEARBY_SLOTS - 1)
}

/// In [`Endpoint::flags`]: the endpoint has an IPv4 address.
pub const HAS_V4: u32 = 1;
/// In [`Endpoint::flags`]: the endpoint has an IPv6 address.
pub const HAS_V6: u32 = 2;

/// An element of `local_v4`, `local_v6`, by address: an address of this node or of a pod on it.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// [`address_tag`] of the address.
    pub tag: u32,
    /// The endpoint's interface, or [`IFINDEX_HOST`].
    pub ifindex: u32,
    /// The bridge that the interface is a port of, or 0.
    pub bridge: u32,
    /// Zero.
    pub reserved: u32,
}

/// How many elements `local_bits` has, words of 64 bits: far more bits than a node has addresses, so that hardly any address
/// of others shares one.
pub const LOCAL_BITS_WORDS: u32 = 256;

/// The element and the bit of `local_bits` of all addresses with this [`address_tag`]. Without the bit `local_v4` and `local_v6`
/// have none of them, and nobody needs to look.
///
/// A bit is set before an address comes into its table, and cleared after the last one that shares it has left.
#[inline(always)]
pub const fn local_bit(tag: u32) -> (u32, u64) {
    // The high bits of a product (Knuth's multiplicative hashing): neighbours share none.
    let place = tag.wrapping_mul(0x9e37_79b1) >> (32 - (LOCAL_BITS_WORDS * 64).ilog2());
    (place / 64, 1 << (place % 64))
}

/// An element of `ident_v4`, `ident_v6`: the identity of an exact address, in two slots. The tag is [`address_tag`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ident {
    /// The two slots.
    pub slots: [Tagged; 2],
}

/// An element of `nets_v4`, `nets_v6`: the identity of a prefix, in two slots.
///
/// It carries no tag: a program cannot tell which prefix matched. It needs none either, since elements of a trie are
/// reused only after a grace period (kernel/bpf/lpm_trie.c, `bpf_mem_cache_free_rcu`; `kfree_rcu` before 6.13), and a
/// plan that deletes prefixes ends with one.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetIdent {
    /// The two slots.
    pub slots: [u32; 2],
}

/// The key of `nets_v4` and `nets_v6`, as the kernel's LPM trie has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetKey<A> {
    /// The length of the prefix, in bits.
    pub prefix_len: u32,
    /// The address; bits beyond the prefix are zero.
    pub address: A,
}

/// The key of `rules`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleKey {
    /// The policy of the endpoint's direction.
    pub policy: u32,
    /// The identity of the peer.
    pub identity: u32,
}

/// What a table says of a connection.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Answer {
    /// Denied.
    Deny = 0,
    /// Allowed.
    Allow = 1,
    /// The port table decides (in `rules` only).
    Ports = 2,
}

/// An element of `rules`: the final answer of a policy for an identity. Without an element for an identity, the one
/// for [`IDENTITY_WORLD`] decides; without that, the policy denies. Never changed: another content is another policy
/// or identity.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleEntry {
    /// The answer.
    pub answer: Answer,
    /// The port table, where the answer is [`Answer::Ports`].
    pub ports: u32,
    /// The rule that decided, or [`RULE_NONE`].
    pub rule: u32,
}

impl RuleEntry {
    /// What no element says: denied, by no rule.
    pub const NOTHING: Self = Self { answer: Answer::Deny, ports: 0, rule: RULE_NONE };
}

/// The key of `ports`: the prefix holds the table, the protocol and the leading bits of the port.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortKey {
    /// The length of the prefix, in bits: [`PORT_KEY_FIXED_BITS`] and up to 16 of the port.
    pub prefix_len: u32,
    /// What the prefix is of.
    pub place: PortPlace,
}

/// A port in a port table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortPlace {
    /// The port table.
    pub table: u32,
    /// The IP protocol number.
    pub protocol: u8,
    /// The port, big endian.
    pub port: [u8; 2],
    /// Zero.
    pub reserved: u8,
}

/// The bits of a [`PortKey`] before the port.
pub const PORT_KEY_FIXED_BITS: u32 = 40;

/// An element of `ports`: [`Answer::Allow`] or [`Answer::Deny`]. What no element covers is denied.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortEntry {
    /// The answer.
    pub answer: Answer,
    /// The rule that decided, or [`RULE_NONE`].
    pub rule: u32,
}

/// The key of `flows_v4` and `flows_v6`: a connection of one endpoint, the same for packets of both directions because
/// the endpoint's own end always stands first. The endpoint's id stands for its address, so a later pod with the same
/// address finds none of the old owner's flows.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowKey<A> {
    /// The endpoint's id.
    pub endpoint: u32,
    /// The other end's address.
    pub peer: A,
    /// The endpoint's port (ICMP echo: the identifier on the asking side, 8 on the answering side).
    pub own_port: u16,
    /// The other end's port.
    pub peer_port: u16,
    /// The IP protocol number; as wide as this, a key has no bytes that would have to be zeroed one by one.
    pub protocol: u32,
}

/// What a verdict on a packet of a known connection depends on: one word, read once.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowState {
    /// The low half of the commit under which the connection was judged.
    pub commit: u32,
    /// Says whose state this is: a hash of the key.
    pub tag: u16,
    /// The bits of [`flow_flag`].
    pub flags: u16,
}

/// An element of `flows_v4`, `flows_v6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Judgement and opener.
    pub state: FlowState,
    /// When a packet was last seen, in seconds of [`Control::tick_s`].
    pub seen_s: u32,
    /// [`Arrival`] of the packet of the other end whose source was last looked at, or [`Arrival::UNCHECKED`].
    pub arrival: Arrival,
}

/// By which interface a packet reached this node, and under which commit its source was looked at, in one number: what was
/// found under one commit says nothing under the next, whoever writes it down how late.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrival(u32);

impl Arrival {
    /// No packet of the other end has been looked at.
    pub const UNCHECKED: Self = Self(0);

    /// By this interface, under this commit.
    ///
    /// Interfaces have small numbers, and two commits that meet are near each other: multiplied, they differ in high bits, as
    /// long as there are fewer than 5,000 between them.
    #[inline(always)]
    pub const fn new(ifindex: u32, commit: u64) -> Self {
        Self((ifindex ^ (commit as u32).wrapping_mul(0x9e37_79b1)) | 1 << 31)
    }
}

/// An element of `cuts_v4`, `cuts_v6`, by the key of a flow: a connection that was known and that a policy then forbade.
///
/// It outlives the flow, which a flood of others may push out of its table, so that nobody's packet in mid-stream opens
/// the connection again. Nothing but what was cut comes into these tables, and nothing pushes anything out; what finds no room
/// stays cut as long as its flow is known.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// When it was cut, in seconds of [`Control::tick_s`].
    pub seen_s: u32,
    /// Says whose this is: a hash of the key.
    pub tag: u16,
    /// Who had opened it: those bits of [`flow_flag`].
    pub opener: u16,
}

/// The bits of [`FlowState::flags`].
pub mod flow_flag {
    /// The endpoint opened the connection.
    pub const OPENED_BY_OWN: u16 = 1;
    /// The other end opened it. With neither bit nobody was seen to: each direction then stands for itself.
    pub const OPENED_BY_PEER: u16 = 2;
    /// The endpoint's egress policy allows it.
    pub const EGRESS_OK: u16 = 4;
    /// The endpoint's ingress policy allows it.
    pub const INGRESS_OK: u16 = 8;
    /// The other end is the node itself, by a local socket.
    pub const NODE: u16 = 16;
    /// A FIN or RST was seen: the entry may go soon.
    pub const CLOSING: u16 = 32;
    /// A policy cut it: there is an element of `cuts_…` too.
    pub const CUT: u16 = 64;
    /// The endpoint was seen to accept a connection, so it has not opened this one.
    pub const ACCEPTED_BY_OWN: u16 = 128;
    /// The other end was.
    pub const ACCEPTED_BY_PEER: u16 = 256;
    /// The end that did not open it has asked to open one on its ports.
    pub const ASKED: u16 = 512;
    /// Only an RST says that it ends, which anybody may have made up: whatever follows shows that it goes on.
    pub const RESET: u16 = 1024;
    /// The endpoint's egress policy of an earlier commit allowed it: what now is denied was cut.
    pub const EGRESS_WAS_OK: u16 = 2048;
    /// The endpoint's ingress policy of an earlier commit did.
    pub const INGRESS_WAS_OK: u16 = 4096;
}

/// Packets and bytes, per CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes, headers included.
    pub bytes: u64,
}

/// How many reasons an element of `counters` has room for, in each direction.
pub const REASON_SLOTS: usize = 32;

/// An element of `counters`, by [`Endpoint::counters`]: what happened to an endpoint's packets, by reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointCounters {
    /// Packets that leave the endpoint, by [`crate::reason::Reason`].
    pub from_pod: [Counter; REASON_SLOTS],
    /// Packets that reach it.
    pub to_pod: [Counter; REASON_SLOTS],
}

const fn mix(hash: u32, word: u32) -> u32 {
    // The multiply-rotate step of MurmurHash3: enough to tell keys apart, not to resist an adversary, who would have
    // to win a race of nanoseconds as well.
    let hash = hash ^ word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// The tag of an exact address given as 32-bit words: the address itself (IPv4), or a hash of it (IPv6).
#[inline(always)]
pub const fn address_tag(words: &[u32]) -> u32 {
    if words.len() == 1 {
        return words[0];
    }
    let mut hash = 0;
    let mut index = 0;
    while index < words.len() {
        hash = mix(hash, words[index]);
        index += 1;
    }
    hash
}

const _: () = {
    assert!(size_of::<Control>() == 24);
    assert!(size_of::<Tagged>() == 8 && align_of::<Tagged>() == 8);
    assert!(size_of::<Endpoint>() == 72);
    assert!(offset_of!(Endpoint, v6) % 8 == 0 && offset_of!(Endpoint, v4) % 4 == 0);
    assert!(size_of::<Local>() == 16);
    assert!(size_of::<Ident>() == 16 && size_of::<NetIdent>() == 8 && align_of::<NetIdent>() == 4);
    assert!(size_of::<NetKey<[u8; 4]>>() == 8 && size_of::<NetKey<[u8; 16]>>() == 20);
    assert!(size_of::<RuleKey>() == 8 && size_of::<RuleEntry>() == 12);
    assert!(size_of::<PortKey>() == 12 && size_of::<PortEntry>() == 8);
    assert!(size_of::<FlowKey<[u8; 4]>>() == 16 && size_of::<FlowKey<[u8; 16]>>() == 28);
    assert!(size_of::<FlowState>() == 8 && size_of::<Flow>() == 16 && size_of::<Cut>() == 8);
    assert!(size_of::<EndpointCounters>() == 2 * REASON_SLOTS * 16);
};
