/* SPDX-License-Identifier: MIT */
/*
 * step.pml - the step protocol as kvmd, libkv and a device stream follow it
 *
 * Three writers, each behind a first-in-first-out store buffer: the client
 * (CL), its device stream (DV) and kvmd (KD). Two spaces, three frames. At
 * first space 0 owns frame 0; a fork lets space 1 share it, a destroy takes
 * space 0 away. kvmd moves frames MOVES times, whenever it may.
 *
 * The acts and their order are those of kvmd/mm/{fork,resv,space,move}.c and
 * of libkv's step code: requests and replies are words with release order
 * (the ring), a reply is followed by a look at the generation and, only if
 * it moved, at the entry.
 *
 * What must hold: whenever the stream touches a frame for a space, the frame
 * holds that space's content. A free frame holds WASTE at once. And when the
 * client is done, kvmd always comes to its last move: otherwise pan reports
 * an invalid end state.
 *
 * -DNO_rule takes one rule away; every such model must fail (test_spin.c).
 */
#ifndef STEPS
#define STEPS 2
#endif
#ifndef MOVES
#define MOVES 1
#endif

#define CL 0
#define DV 1
#define KD 2

/* Shared words. */
#define MARK	 0	/* 0, 1: active_step of each space */
#define DONE	 2	/* completed */
#define GEN	 3	/* 3, 4 */
#define ENTRY	 5	/* 5, 6: page table entries */
#define REQ	 7
#define REP	 8
#define NR_WORDS 9

/* An entry: frame, and what may be done with it. */
#define WRITE  8
#define MOVING 16
#define NONE   32
#define READABLE(e)   ((e) < MOVING)
#define USABLE(e, wr) (READABLE(e) && (!(wr) || ((e) & WRITE)))
#define FRAME(e)      ((e) & 7)

#define WASTE	 255
#define NO_FRAME 7

#define LATER(a, b) ((a) > (b) -> (a) : (b))

byte word[NR_WORDS];
chan buffer[3] = [7] of { byte, byte };

#define store(who, w, v) buffer[who]!w, v
#define barrier(who)	 empty(buffer[who])

/* Ghosts: what a frame holds, what a space should read. */
byte holds[3], content[2];

/* Arguments of the one request under way, and its answer. */
byte rq_op, rq_step, rq_space, rq_write, rp_source;
#define RESERVE 0
#define FORK	1
#define DESTROY 2

chan stream = [2] of { byte, byte, byte, byte, byte, byte };
bool stream_busy, client_ended, client_died;

proctype Drain(byte who)
{
	byte w, v;
end:
	do
	:: atomic { buffer[who]?w, v -> word[w] = v; w = 0; v = 0 }
	od
}

/* One touch of a step: is it still the content of its space? */
#define touch(f, s) assert(holds[f] == content[s])

proctype Stream()
{
	byte op, step, space, wr, frame, source;
end:
	do
	:: atomic { stream?op, step, space, wr, frame, source ->
		    stream_busy = 1 };
	   if
	   :: op == FORK -> content[1] = content[0]
	   :: else ->
#ifdef NO_C6
		store(DV, DONE, step);
#endif
		if
		:: source != NO_FRAME ->
			atomic { touch(source, space);
				 holds[frame] = holds[source] }
		:: else
		fi;
		touch(frame, space);
		if
		:: wr -> atomic { touch(frame, space);
				  content[space] = 10 + step;
				  holds[frame] = 10 + step }
		:: else
		fi;
		touch(frame, space);
#ifndef NO_C6
		store(DV, DONE, step)			/* C6 */
#endif
	   fi;
	   stream_busy = 0; op = 0; step = 0; space = 0; wr = 0; frame = 0;
	   source = 0
	od
}

inline ask(o, n, s, w)
{
	rq_op = o; rq_step = n; rq_space = s; rq_write = w;
	asked++;
	store(CL, REQ, asked);
	word[REP] == asked
}

/* C3: generation, and only then the entry, kept under that generation. */
inline look(s)
{
#ifdef NO_C3_ORDER
	e = word[ENTRY + s];
#endif
	g = word[GEN + s];
	if
	:: g != known_gen[s] ->
#ifndef NO_C3_ORDER
		e = word[ENTRY + s];
#endif
#ifdef NO_C3_EARLIER
		g = word[GEN + s];
#endif
		known_gen[s] = g; known[s] = e
	:: else
	fi;
	g = 0; e = 0
}

proctype Client()
{
	byte step, s, wr, g, e, asked, source;
	byte known_gen[2], known[2], mark[2];
	bool forked, destroyed;

	known_gen[0] = 1; known_gen[1] = 1;
	known[0] = WRITE; known[1] = NONE;
	do
	:: step == STEPS -> break
#ifdef DEATH
	:: client_died = 1; break
#endif
	:: !forked ->
		ask(FORK, 0, 0, 0);
		stream!FORK, 0, 0, 0, 0, NO_FRAME;
		forked = 1
	:: forked && !destroyed ->
		ask(DESTROY, 0, 0, 0);
		destroyed = 1
	:: step < STEPS ->
		step++;
		if
		:: !destroyed -> s = 0
		:: forked -> s = 1
		fi;
		if
		:: wr = 0
		:: wr = 1
		fi;
		source = NO_FRAME;
#ifndef NO_C1
		store(CL, MARK + s, step);		/* C1 */
#endif
#ifndef NO_C2
		barrier(CL);				/* C2 */
#endif
		look(s);				/* C3 */
		if
		:: USABLE(known[s], wr) -> mark[s] = step	/* C4 */
		:: else ->				/* C5 */
#ifdef NO_C5
			store(CL, MARK + s, 0);
#else
			store(CL, MARK + s, mark[s]);
#endif
			ask(RESERVE, step, s, wr);
			source = rp_source;
			look(s);
			assert(USABLE(known[s], wr))
		fi;
#ifdef DEATH
		if
		:: client_died = 1; break
		:: skip
		fi;
#endif
		stream!RESERVE, step, s, wr, FRAME(known[s]), source;
		s = 0; wr = 0; source = 0
	od;
	client_ended = 1
}

/* kvmd's own copies; nothing of them is ever read back from words. */
#define MAPS(s, f) (READABLE(mine[s]) && FRAME(mine[s]) == (f))
#define REFS(f)	   (MAPS(0, f) + MAPS(1, f))
#define BUSY(s)	   (!gone && LATER(word[MARK + s], resv[s]) > word[DONE])
#define PASSED(f)  (gone || pin[f] <= word[DONE])
#define ANY_FREE   (unused[0] || unused[1] || unused[2])
#ifdef NO_K0
#define IDLE(f)	   true
#else
#define IDLE(f)	   (!(MAPS(0, f) && BUSY(0)) && !(MAPS(1, f) && BUSY(1)))
#endif
#define MOVABLE(f) (ANY_FREE && REFS(f) > 0 && PASSED(f) && IDLE(f))

inline bump(s)
{
	my_gen[s]++;
	store(KD, GEN + s, my_gen[s])
}

inline set_entry(s, v)
{
	mine[s] = v;
	store(KD, ENTRY + s, v)
}

inline take_frame(f)
{
	if
	:: unused[0] -> f = 0
	:: unused[1] -> f = 1
	:: unused[2] -> f = 2
	fi;
	unused[f] = 0
}

/* A frame without mapper goes when its pin has passed. */
inline reuse(f)
{
	d_step {
		!unused[f] && REFS(f) == 0 && f != target && PASSED(f) ->
		holds[f] = WASTE;
		pin[f] = 0;
		unused[f] = 1
	}
}

inline unmap(s)
{
#ifdef NO_K2_ORDER
	bump(s);
#endif
#ifndef NO_K1
	store(KD, ENTRY + s, MOVING);			/* K1 */
#endif
#ifndef NO_K2_ORDER
#ifndef NO_K2
	bump(s)						/* K2 */
#else
	skip
#endif
#endif
}

/* K4 for one mapper. */
inline judge(s)
{
	a = word[MARK + s];
	d = word[DONE];
	if
	:: !gone && LATER(a, resv[s]) > d -> idle = 0
	:: else
	fi;
	a = 0; d = 0
}

inline remap(s)
{
	store(KD, ENTRY + s, mine[s]);
#ifdef NO_K5_RISE
	if
	:: idle -> bump(s)
	:: else -> my_gen[s]--; store(KD, GEN + s, my_gen[s])
	fi
#else
#ifndef NO_K5_BUMP
	bump(s)						/* K5 */
#else
	skip
#endif
#endif
}

inline serve()
{
	rp = NO_FRAME;
	if
	:: rq_op == FORK ->
		set_entry(0, FRAME(mine[0]));
		set_entry(1, mine[0]);
		bump(1); bump(0)
	:: rq_op == DESTROY ->
		f = FRAME(mine[0]);
		a = word[MARK];
		set_entry(0, NONE);
#ifndef NO_K7_MAPPING
		pin[f] = LATER(pin[f], LATER(a, resv[0]));	/* K7 */
#endif
		bump(0); a = 0
	:: else ->
		if
		:: USABLE(mine[rq_space], rq_write)
		:: else ->
			f = FRAME(mine[rq_space]);
			if
			:: REFS(f) == 1 -> set_entry(rq_space, f | WRITE)
			:: else ->
				rp = f;
				take_frame(target);
#ifndef NO_K7_SOURCE
				pin[f] = LATER(pin[f], rq_step);	/* K7 */
#endif
				set_entry(rq_space, target | WRITE);
				target = NO_FRAME
			fi;
#ifndef NO_K6_BUMP
			bump(rq_space)
#else
			skip
#endif
		fi;
#ifndef NO_K6_RESV
		resv[rq_space] = rq_step			/* K6 */
#else
		skip
#endif
	fi;
	rp_source = rp;
	served++;
	store(KD, REP, served);
	f = NO_FRAME; rp = 0
}

inline move()
{
	m0 = MAPS(0, f); m1 = MAPS(1, f);
	if
	:: m0 -> unmap(0)
	:: else
	fi;
	if
	:: m1 -> unmap(1)
	:: else
	fi;
#ifndef NO_K3
	barrier(KD);						/* K3 */
#endif
	idle = 1;						/* K4 */
#ifndef NO_K4
	if
#ifdef NO_K4_EVERY
	:: m0 && !m1 -> judge(0)
#else
	:: m0 -> judge(0)
#endif
	:: else
	fi;
	if
	:: m1 -> judge(1)
	:: else
	fi;
#endif
	if							/* K5 */
	:: idle ->
		holds[target] = holds[f];
		if
		:: m0 -> mine[0] = target | (mine[0] & WRITE)
		:: else
		fi;
		if
		:: m1 -> mine[1] = target | (mine[1] & WRITE)
		:: else
		fi;
		atomic { holds[f] = WASTE; unused[f] = 1; moves++ }
	:: else -> unused[target] = 1
	fi;
	if
	:: m0 -> remap(0)
	:: else
	fi;
	if
	:: m1 -> remap(1)
	:: else
	fi;
	target = NO_FRAME; f = NO_FRAME; idle = 0; m0 = 0; m1 = 0
}

proctype Kvmd()
{
	byte mine[2], my_gen[2], pin[3], resv[2];
	bool unused[3], idle, m0, m1, gone;
	byte served, moves, f, target, rp, a, d;

	f = NO_FRAME; target = NO_FRAME;
	mine[0] = WRITE; mine[1] = NONE;
	my_gen[0] = 1; my_gen[1] = 1;
	unused[1] = 1; unused[2] = 1;
	do
	:: client_ended && word[REQ] == served && moves == MOVES -> break
	:: word[REQ] != served -> serve()
	:: reuse(0)
	:: reuse(1)
	:: reuse(2)
#ifdef DEATH
#ifdef NO_K8
	:: client_died && !gone -> gone = 1
#else
	:: atomic { client_died && !gone && empty(stream) &&
		    !stream_busy && empty(buffer[DV]) -> gone = 1 } /* K8 */
#endif
#endif
	:: atomic {
		moves < MOVES && (MOVABLE(0) || MOVABLE(1) || MOVABLE(2)) ->
		if
		:: MOVABLE(0) -> f = 0
		:: MOVABLE(1) -> f = 1
		:: MOVABLE(2) -> f = 2
		fi;
		take_frame(target)
	   };
	   move()
	od
}

init {
	atomic {
		holds[0] = 1; holds[1] = WASTE; holds[2] = WASTE;
		content[0] = 1;
		word[GEN] = 1; word[GEN + 1] = 1;
		word[ENTRY] = WRITE; word[ENTRY + 1] = NONE;
		run Drain(CL); run Drain(DV); run Drain(KD);
		run Stream(); run Client(); run Kvmd()
	}
}
