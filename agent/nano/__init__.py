"""thox-nano: the small demonstration model that ships with the agent, and the script that makes it.

A device that has just been unpacked has no network and no model, and still ought to answer. So the tree carries a model
of a few million parameters that knows this device, its API and a little small talk, and says so when it knows no more.
It is made here from nothing but the text of `corpus`, by `python -m agent.nano.train --out DIR`; the result lies in
`checkpoint`. Nothing of the running agent imports this package.
"""
