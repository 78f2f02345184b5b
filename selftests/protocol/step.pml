/* SPDX-License-Identifier: MIT */
/* Section 3: one client (step n running, n+1 prepared), its device stream, kvmd; TSO store buffers.
 * Space 0 owns frame 0 (RW); FORK makes space 1; KILL frees space 0. Default = the corrected rules.
 * A -D names a mutant (one rule removed). Freed frame = garbage at once (the second client wrote it). */
#ifndef STEPS
#define STEPS 3
#endif
#ifndef MOVES
#define MOVES 2
#endif
#ifndef BASE
#define BASE 0           /* first step number - 1 */
#endif
#define NONE 7
#define GARB 255
#define W 8              /* pte = frame | W */
#define MIG 16           /* pte: not present, handshake running */
#define ABS 32           /* pte: no page */
#define OK(p,w) ((p)<16 && (!(w) || ((p)&W)))
#define ACT 0            /* mem[]: 0,1 active_step  2 completed  3,4 generation  5,6 pte */
#define COMP 2
#define GEN 3
#define PTE 5
#define C 0
#define D 1
#define K 2
#define MAX(a,b) ((a)>(b)->(a):(b))
#define st(i,a,v) sb[i]!a,v
#define fence(i) empty(sb[i])
#define FORK 2
#define KILL 3
byte mem[7], tok[3], ver[2];                    /* shared words; ghosts: content of a frame, of a space */
byte pin[3], resv[2], dp[2], dg[2], moves;      /* kvmd's own; dp, dg shadow its pte, gen */
bool isfree[3], cdone, crashed, devbusy, gone;
chan sb[3] = [6] of { byte, byte };
chan launch = [1] of { byte, byte, byte, byte, byte };
chan req = [0] of { byte, byte, byte }; chan rep = [0] of { byte };

proctype Flush(byte i) { byte a,v; end: do :: atomic { sb[i]?a,v -> mem[a]=v; a=0; v=0 } od }

proctype Dev() { byte n,s,w,f,src;
end: do
 :: atomic { launch?n,s,w,f,src -> devbusy=1 };
  if :: w==FORK -> ver[1]=ver[0]
     :: else ->
      if :: src!=NONE -> atomic { assert(tok[src]==ver[s]); tok[f]=tok[src] } :: else fi; /* copy list */
      assert(tok[f]==ver[s]);                                      /* first touch */
      if :: w -> atomic { assert(tok[f]==ver[s]); ver[s]=10+n; tok[f]=10+n } :: else fi;
      assert(tok[f]==ver[s]);                                      /* last touch */
      st(D,COMP,n)
  fi; devbusy=0; n=0; s=0; w=0; f=0; src=0
 od }

proctype Client() { byte n=BASE, s, w, src, g, l, cg[2], cp[2], prev[2]; bool forked, killed;
 cp[0]=W; cp[1]=ABS;
 do
 :: n==BASE+STEPS -> break
#ifdef CRASH
 :: crashed=1; break
#endif
 :: !forked -> req!0,0,FORK; rep?src; forked=1; launch!0,0,FORK,0,NONE
 :: forked && !killed -> req!0,0,KILL; rep?src; killed=1
 :: n<BASE+STEPS -> n++;
  if :: !killed -> s=0 :: forked -> s=1 fi;
  if :: w=0 :: w=1 fi;
  src=NONE;
#ifdef LEAFFIRST
  l=mem[PTE+s];
#endif
  st(C,ACT+s,n);                                                   /* C1 mark */
#ifndef NOCF
  fence(C);                                                        /* C2 full barrier */
#endif
#ifdef ODD
  atomic { (mem[GEN+s]&1)==0 -> g=mem[GEN+s] };
#else
  g=mem[GEN+s];                                                    /* C3 generation ... */
#endif
#ifndef LEAFFIRST
  if :: g!=cg[s] -> l=mem[PTE+s] :: else fi;                       /*    ... then leaf */
#endif
  if :: g!=cg[s] -> cg[s]=g; cp[s]=l :: else fi;
  if :: OK(cp[s],w) -> prev[s]=n                                   /* C4 */
#ifdef UNMARK0
     :: else -> st(C,ACT+s,0);
#else
     :: else -> st(C,ACT+s,prev[s]);                               /* C5 unmark, then reserve */
#endif
        req!n,s,w; rep?src; cg[s]=mem[GEN+s]; cp[s]=mem[PTE+s]; assert(OK(cp[s],w))
  fi; g=0; l=0;
#ifdef CRASH
  if :: crashed=1; break :: skip fi;
#endif
  launch!n,s,w,(cp[s]&7),src
 od; cdone=1 }

#define MAPS(s,f) (dp[s]<16 && (dp[s]&7)==f)
#define REFS(f) (MAPS(0,f)+MAPS(1,f))
#define BUSY(s) (!gone && MAX(mem[ACT+s],resv[s])>mem[COMP])
#define UNPIN(f) (gone || pin[f]<=mem[COMP])
#ifdef ONEMAP
#define IDLE(f) (MAPS(1,f) -> !BUSY(1) : !BUSY(0))
#else
#define IDLE(f) (!(MAPS(0,f)&&BUSY(0)) && !(MAPS(1,f)&&BUSY(1)))
#endif
#define CAN(x) (moves<MOVES && (isfree[0]||isfree[1]||isfree[2]) && REFS(x)>0 && UNPIN(x) && IDLE(x))
#ifdef ODD
#define INC 2
#else
#define INC 1
#endif
#define setp(s,v) st(K,PTE+s,v)
inline bump(s,i) { dg[s]=dg[s]+i; st(K,GEN+s,dg[s]) }
inline look(s) {
#ifdef COMPFIRST
  c=mem[COMP]; a=mem[ACT+s];
#else
  a=mem[ACT+s]; c=mem[COMP];
#endif
  if :: !gone && MAX(a,resv[s])>c -> ok=0 :: else fi }
inline pick(x) { if :: isfree[0]->x=0 :: isfree[1]->x=1 :: isfree[2]->x=2 fi; isfree[x]=0 }
inline lock(s) {
#if !defined(DESIGN) && !defined(ODD) && !defined(GENFIRST)
  setp(s,MIG);                                                     /* K1 make it not present */
#endif
  bump(s,1);                                                       /* K2 generation */
#ifdef GENFIRST
  setp(s,MIG)
#endif
}
inline unlock(s) {
  setp(s,dp[s]);
#ifdef UNBUMP
  if :: ok -> bump(s,1) :: else -> bump(s,255) fi
#else
#if !defined(DESIGN) && !defined(NOBUMP2)
  bump(s,1)
#endif
#endif
}
inline freeit(x) { d_step { !isfree[x] && REFS(x)==0 && UNPIN(x) -> tok[x]=GARB; pin[x]=0; isfree[x]=1 } }

proctype Kvmd() { byte n,s,w,f=NONE,d,a,c; bool ok, m0, m1;
 do
 :: cdone && moves==MOVES -> break                /* else an invalid end state: reclaim was starved */
 :: freeit(0) :: freeit(1) :: freeit(2)
#ifdef CRASH
#ifdef CRASHEARLY
 :: crashed && !gone -> gone=1
#else
 :: atomic { crashed && !gone && empty(launch) && !devbusy && empty(sb[D]) -> gone=1 }
#endif
#endif
 :: req?n,s,w -> d=NONE;
   if
   :: w==FORK -> dp[0]=dp[0]&7; dp[1]=dp[0]; setp(0,dp[0]); setp(1,dp[1]); bump(0,INC); bump(1,INC)
   :: w==KILL -> a=dp[0]&7;
#ifndef NODPIN
      pin[a]=MAX(pin[a],MAX(mem[ACT],resv[0]));                    /* K7 */
#endif
      dp[0]=ABS; setp(0,ABS); bump(0,INC)
   :: else ->
#ifndef NORESV
      resv[s]=n;                                                   /* K6 */
#endif
      if :: OK(dp[s],w)
         :: else -> a=dp[s]&7;
          if :: REFS(a)==1 -> dp[s]=a|W
             :: else -> d=a; pick(c);
#ifndef NOPIN
                pin[a]=MAX(pin[a],n);                              /* K7 copy source of step n */
#endif
                dp[s]=c|W
          fi; setp(s,dp[s]); bump(s,INC)
      fi
   fi; fence(K); rep!d; n=0; s=0; w=0; a=0; c=0; d=0
 :: atomic { if :: CAN(0)->f=0 :: CAN(1)->f=1 :: CAN(2)->f=2 fi; pick(d); m0=MAPS(0,f); m1=MAPS(1,f) };
   if :: m0 -> lock(0) :: else fi;
   if :: m1 -> lock(1) :: else fi;
#ifndef NOKF
   fence(K);                                                       /* K3 full barrier */
#endif
   ok=1;                                                           /* K4 every mapper */
#ifdef ONEMAP
   if :: m1 -> look(1) :: else -> look(0) fi;
#else
   if :: m0 -> look(0) :: else fi; if :: m1 -> look(1) :: else fi;
#endif
   if :: ok -> tok[d]=tok[f];                                      /* K5a copy, map, free */
         if :: m0 -> dp[0]=d|(dp[0]&W); :: else fi; if :: m1 -> dp[1]=d|(dp[1]&W) :: else fi;
         atomic { tok[f]=GARB; isfree[f]=1; moves++ }
      :: else -> isfree[d]=1                                       /* K5b put back */
   fi;
   if :: m0 -> unlock(0) :: else fi; if :: m1 -> unlock(1) :: else fi;
   a=0; c=0; ok=0; f=NONE; d=0; m0=0; m1=0
 od }
#ifdef LATE
active proctype Ghost() { mem[COMP]=STEPS }       /* the dead life's last store lands late */
#endif
init { atomic { tok[0]=1; tok[1]=GARB; tok[2]=GARB; ver[0]=1; isfree[1]=1; isfree[2]=1;
  dp[0]=W; dp[1]=ABS; mem[PTE]=W; mem[PTE+1]=ABS;
  run Flush(C); run Flush(D); run Flush(K); run Dev(); run Client(); run Kvmd() } }
