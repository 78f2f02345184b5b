/* SPDX-License-Identifier: MIT */
/* two clients, two frames; each holds one (idle) and needs a second for its next step */
byte freef=0; byte has[2]; bool marked[2]; byte done;
active [2] proctype Cl() { byte me=_pid, o=1-_pid; has[me]=1;
 (has[o]>0 || done>0);
#ifdef MARKWAIT
 marked[me]=1;            /* mark, then wait for the ticket */
#endif
 atomic { (has[o]+(2-has[0]-has[1])>=1 && (has[o]==0 || !marked[o])) -> has[o]=0; has[me]=2; marked[me]=1 } /* kvmd grants, all or nothing */
 atomic { marked[me]=0; done++ } }
