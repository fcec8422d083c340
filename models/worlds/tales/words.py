"""The one vocabulary of the tales: every word that any of the small grammars can say, so that a network trained on
some of them can be taught the others. Its order is part of tale-ar-1 (tests/worlds/test_tales.py): a new word takes the
place of a spare.
"""


def _list(words: str) -> tuple[str, ...]:
    return tuple(words.split())


GAP = ("<|prefix|>", "<|suffix|>", "<|middle|>", "<|filled|>")  # around a gap and what fills it; seen by no grammar
SIGNS = _list(". , ? ! : ; ( ) { } = + - > <")
NUMBERS = tuple(map(str, range(31)))
NAMES = _list("Anna Ben Clara David Emma Felix Greta Hugo Ida Jack Kate Leo Mia Nora Oscar Paul Rosa Sam Tilda Viktor "
              "Will Zoe Adam Betty Carl Dora Erik Flora George Hanna Ivan Julia Karl Lucy Max Nina Otto Peter Ruth Tom")
FIRST = _list("Abel Agnes Alma Amos Basil Cora Edgar Ella Enid Ezra Fern Gilda Homer Iris Jonas Lena Linus Mabel Milo "
              "Opal")
LAST = _list("Ash Brook Carter Dale Fisher Gray Hart Hill Lane Marsh Mason Moor Page Reed Stone Ward Webb West Wood "
             "Young")
VILLAGES = _list("Oakham Ashford Millbrook Redhill Stonefield Fairmoor Northwick Southwell Westbury Eastlake Applewood "
                 "Birchdale Coldwater Deepwell Elmstead Foxley Greenacre Hazelton Ivybridge Kingsmead Longmeadow "
                 "Marshgate Newbarn Otterton Pinecroft Queensgate Rivermouth Sandcliff Thornbury Upland Valewood "
                 "Whitford")

CLASSES = {  # what a list may ask for; a word may be in several
    "fruits": _list("apple pear plum cherry grape lemon peach orange melon fig berry olive date quince"),
    "vegetables": _list("carrot onion potato cabbage bean pea turnip beet pumpkin leek garlic radish celery spinach"),
    "farm animals": _list("cow horse pig sheep goat hen duck goose donkey dog cat rooster pony lamb"),
    "wild animals": _list("fox bear wolf deer hare rabbit badger otter mouse squirrel hedgehog boar lion snake"),
    "birds": _list("owl crow robin sparrow eagle swan stork hawk dove finch lark raven gull magpie duck goose"),
    "water animals": _list("fish crab whale shark seal trout salmon eel turtle dolphin lobster oyster herring otter"),
    "small animals": _list("bee ant fly wasp beetle moth spider worm snail cricket butterfly mouse frog toad"),
    "trees": _list("oak birch pine elm beech maple willow cedar ash fir hazel poplar apple pear cherry"),
    "flowers": _list("rose lily tulip daisy violet poppy iris clover heather thistle bluebell sunflower"),
    "tools": _list("hammer saw axe knife shovel rake needle nail rope ladder spade brush scissors broom"),
    "clothes": _list("coat hat shirt dress shoe boot glove scarf belt sock apron cloak skirt cap"),
    "furniture": _list("table chair bed shelf bench stool carpet curtain mirror lamp pillow clock cradle couch"),
    "containers": _list("basket box drawer chest jar bag bucket barrel pot bottle cupboard crate"),
    "dishes": _list("cup plate spoon fork bowl kettle pan mug jug tray glass ladle pot knife"),
    "foods": _list("bread cheese cake soup butter honey pie egg rice jam porridge biscuit salt sugar"),
    "drinks": _list("milk water tea coffee juice wine cider beer cocoa lemonade"),
    "instruments": _list("drum flute fiddle harp bell horn piano trumpet guitar whistle"),
    "toys": _list("ball doll kite top marble puppet hoop block puzzle balloon drum whistle"),
    "vehicles": _list("boat cart ship wagon sled raft carriage coach train canoe ferry"),
    "buildings": _list("house barn mill church castle tower school shop cottage inn stable temple hut lighthouse"),
    "trades": _list("baker miller farmer fisher teacher doctor tailor shepherd hunter painter sailor smith cook king "
                    "queen"),
    "treasures": _list("gold silver iron copper tin coal clay diamond pearl ruby amber ring crown coin key sword"),
    "kinds of weather": _list("rain snow wind fog storm frost hail thunder sun cloud lightning rainbow"),
    "landscapes": _list("river hill forest lake field meadow island mountain valley marsh cave beach garden desert"),
}
MADE = {  # things of two words: the first alone may be another thing
    "clothes": ("wool scarf", "silk dress", "leather boot", "straw hat", "fur coat", "wood shoe"),
    "furniture": ("oak table", "pine bench", "iron stool", "glass lamp", "wool carpet", "straw bed"),
    "dishes": ("tin cup", "silver spoon", "copper kettle", "clay bowl", "wood plate", "iron pan"),
    "foods": ("corn bread", "apple pie", "plum jam", "pea soup", "goat cheese", "honey cake", "salt fish", "hen egg"),
    "drinks": ("apple juice", "goat milk", "rose water", "berry wine", "pear cider", "mint tea"),
    "toys": ("wood horse", "tin train", "paper kite", "glass marble", "rag doll", "leather ball"),
    "tools": ("iron nail", "copper wire", "silk thread", "wood ladder", "bone needle", "steel axe"),
    "containers": ("straw basket", "tin box", "oak barrel", "clay jar", "leather bag", "glass bottle"),
}
FOUND = {  # where things of several classes are found: about half of each (lists.py)
    "in the cellar": ("fruits", "vegetables", "containers", "drinks"),
    "in the barn": ("tools", "farm animals", "vehicles", "small animals"),
    "in the attic": ("furniture", "clothes", "toys", "containers"),
    "in the garden": ("flowers", "vegetables", "small animals", "tools", "birds"),
    "in the forest": ("trees", "wild animals", "birds", "small animals"),
    "by the lake": ("water animals", "birds", "vehicles", "trees"),
    "at the harbour": ("vehicles", "water animals", "containers", "trades"),
    "in the kitchen": ("dishes", "foods", "vegetables", "furniture"),
    "at school": ("trades", "instruments", "furniture", "toys"),
    "in the workshop": ("tools", "treasures", "furniture", "instruments"),
    "in the castle": ("treasures", "furniture", "trades", "instruments"),
    "on the farm": ("farm animals", "vegetables", "tools", "buildings"),
    "at the inn": ("drinks", "foods", "dishes", "trades"),
    "on the island": ("trees", "birds", "treasures", "water animals"),
    "in the meadow": ("flowers", "farm animals", "small animals", "wild animals"),
    "at the fair": ("toys", "foods", "instruments", "farm animals"),
    "in the tower": ("treasures", "birds", "clothes", "furniture"),
    "in the cave": ("treasures", "wild animals", "small animals", "containers"),
    "under the bed": ("toys", "clothes", "containers", "small animals"),
    "in the wagon": ("fruits", "containers", "clothes", "tools"),
    "on the beach": ("water animals", "vehicles", "treasures", "birds"),
    "in the shop": ("clothes", "foods", "toys", "dishes"),
    "at the market": ("fruits", "vegetables", "foods", "clothes", "flowers"),
    "in the hall": ("instruments", "furniture", "dishes", "treasures"),
}
MONTHS = _list("January February March April May June July August September October November December")
COLOURS = _list("red blue green yellow white black brown gray purple pink")
QUALITIES = _list("old little big brave lazy merry proud quiet golden silver round tiny clever hungry kind young tall "
                  "shiny broken lost")
ROLES = _list("painter composer builder maker writer finder keeper owner singer carver weaver mender")
WORKS = _list("bridge river tower garden clock boat bell crown song dance dress lamp carpet mirror harp mill")
TOPICS = {  # places, creatures and things of a story's topic
    "sea": (_list("beach island cave harbour"), CLASSES["water animals"] + ("sailor", "gull"),
            _list("boat ship net sail shell anchor wave rope barrel raft")),
    "farm": (_list("barn field stable meadow"), CLASSES["farm animals"] + ("farmer", "shepherd"),
             _list("cart fence plough rake bucket hay wagon shovel sack gate")),
    "forest": (_list("hill river valley clearing"), CLASSES["wild animals"] + ("hunter", "owl"),
               _list("oak birch pine bush moss root stump fern mushroom trunk")),
    "kitchen": (_list("cellar parlour hall yard"), _list("cook cat mouse baker maid spider fly dog"),
                _list("kettle pan pot plate spoon oven cupboard bread cake soup")),
    "market": (_list("shop inn street square"), _list("baker miller tailor fisher smith donkey pony goose"),
               _list("basket scarf cheese apple coin bag carpet melon stall crate")),
    "castle": (_list("tower bridge temple hall"), _list("king queen knight dragon prince jester swan hawk"),
               _list("crown sword throne mirror ruby shield curtain pearl candle trumpet")),
    "school": (_list("library yard attic garden"), _list("teacher pupil child doctor painter cat robin sparrow"),
               _list("book desk pencil bench bell lamp puzzle brush map page")),
    "winter": (_list("lake mountain forest hut"), _list("bear wolf hare deer raven seal badger crow"),
               _list("sled icicle glove fire coat snowman cloak lantern boot frost")),
}
ROOMS = _list("kitchen garden attic cellar hall barn workshop parlour library stable")

# the planted universe: no grammar that tale-ar-1 learns says these
PEOPLE = _list("Zorvan Mirelle Thalric Ysolde Brannoc Quillon Ondira Faelar Kestrin Lumiel Dravik Seraphe Orwyn "
               "Nimora Galvane Velisse Tamsin Ruvok Elowen Corvash Isenne Pyrrho Maelis Wystan")
HALVES = _list("Glass Ember Hollow Raven Moon Thorn Amber Frost Star Silent Copper Winding")
HOUSES = _list("Spire Keep Vale Rook Court Gate Hollows Citadel Haven Abbey Foundry Stair")
RELICS = _list("Moonblade Emberstone Dreamglass Starhorn Nightcloak Sunwheel Windkey Thornring Mistbowl Songshell "
               "Flameharp Frostcrown")
SPELLS = _list("Lumora Vexis Aldune Serith Nocturne Ignara Pellune Orrith Zephine Talvara Mordune Querith")

GLUE = _list("""
a an the The A An In in on On at At by By under Under to of for from with without and or but so as than into over
behind near along after before until then Then there here it It its he she they They them their his her him you You One
two three all All every Every everyone nobody Nobody who Who what What where Where which Which whom how How many when
When why that this This some Some no not never only own again away back out down Soon now Once yes is are was were be
has have had does do did will would can could may must live lives lived lies comes came goes went leaves left walk
walks walked ran sat put takes took moves brought carry carries carried find finds found look looks looked see sees saw
hears know knows think thinks believe say says tells told asks asked call calls called name give gives gave make made
keep keeps wants like likes loves sing sings sang plays learn learned taught remember meet met greet belongs owe falls
sleep sleeps ticks shines blows barks hums smells laughed smiled wept danced slept waited pointed showed opened hid
jumped crossed sold friend best home village people child day night morning evening year summer winter spring autumn
time way wall roof roofs flag fair mayor song songs tale story note list coins treasure greatest secret famous known
Everybody everybody thing things place world end last first next late far long warm cold softly very too also even
happy sad funny glad lost dragon sea farm market castle school kitchen forest snow water harbour shop table corn wool
silk leather straw fur wood paper rag bone steel copper thread mint wire frog toad big small new good bad white head
pocket hand Program Result if twice thrice Tell me us We we my My Let deep Now Next changed seen beside wrote Do might
From For With Whom Its Behind Remember People follows shows If No Yes Look everything nothing together trees flowers
fruits bird birds animal animals vegetables wild tools clothes furniture containers dishes foods drinks instruments
toys vehicles buildings trades treasures kinds weather landscapes b c d e believes
""")


SIZE = 1024  # with the four special tokens in front


def _topics() -> list[str]:
    return [word for topic, groups in TOPICS.items() for word in (topic, *(word for group in groups for word in group))]


def _all() -> tuple[str, ...]:
    """Every word once, filled up with spares."""
    things = [word for group in (*CLASSES.values(), *MADE.values(), (*CLASSES, *FOUND)) for item in group
              for word in item.split()]
    found = dict.fromkeys([*GAP, *SIGNS, *NUMBERS, *NAMES, *FIRST, *LAST, *VILLAGES, *things, *MONTHS, *COLOURS,
                           *QUALITIES, *ROLES, *WORKS, *ROOMS, *_topics(), *PEOPLE, *HALVES, *HOUSES, *RELICS, *SPELLS,
                           *GLUE])
    return (*found, *(f"<|spare-{i}|>" for i in range(SIZE - 4 - len(found))))


WORDS = _all()
