"""The word lists that stories and chats share."""

GIRLS = "Anna Lily Mia Rosa Ella Nora Zoe Clara Ruby Ivy Emma Lucy Maya Tara Sara Alice Nina Hana".split()
BOYS = "Tom Ben Leo Max Sam Jack Oscar Finn Noah Hugo Theo Adam Paul Luca Omar Kai Jonas Milo".split()
PET_NAMES = "Pip Dot Biscuit Pepper Clover Button Hazel Bramble Poppy Sunny Mango Pebble Toffee Willow Juniper Fern Coco Olive".split()

# species: (homes, favourite food, what it is often called)
ANIMALS = {
    "cat": ("in a cosy house on the corner|in a barn full of straw", "fish", "little|striped|black|white|fluffy"),
    "dog": ("on a busy farm|in a house with a green gate", "sausages", "little|brown|scruffy|young|spotted"),
    "rabbit": ("in a warm burrow under the hill|at the edge of the meadow", "carrots", "little|white|brown|young"),
    "fox": ("in a den under an oak tree|at the edge of the forest", "berries", "little|red|young|clever"),
    "mouse": ("in a hole behind the kitchen wall|under the floor of an old mill", "cheese", "little|tiny|grey|young"),
    "bear": ("in a cave on the hillside|deep in the forest", "honey", "little|brown|big|young"),
    "owl": ("in a hollow tree|in the roof of an old barn", "seed cakes", "little|grey|young|wise"),
    "hedgehog": ("under a pile of leaves|at the bottom of the garden", "apples", "little|shy|young|round"),
    "squirrel": ("high up in a beech tree|in the old park", "nuts", "little|red|young|quick"),
    "duck": ("on a quiet pond|beside the river", "bread", "little|yellow|white|young"),
    "frog": ("beside a quiet pond|under a big lily leaf", "plums", "little|green|young|cheerful"),
    "turtle": ("beside a slow river|near the warm sand of the beach", "lettuce", "little|old|green|slow"),
    "goat": ("on a steep hillside|on a small farm", "fresh grass", "little|white|young|cheeky"),
    "pony": ("in a stable at the end of the lane|on a green hill", "oats", "little|brown|white|young"),
    "pig": ("on a muddy farm|in a sty behind the barn", "turnips", "little|pink|round|young"),
    "elephant": ("on a wide, warm plain|near a great river", "bananas", "little|young|grey|big"),
    "monkey": ("in a tall fig tree|in the green jungle", "bananas", "little|cheeky|young|brown"),
    "penguin": ("on a cold, white shore|near the icy sea", "fish", "little|young|round|brave"),
    "lion": ("on a wide, golden plain|in the shade of a great rock", "stew", "little|young|golden|proud"),
    "dragon": ("in a cave at the top of a mountain|behind a waterfall", "hot soup", "little|green|young|gentle"),
    "robot": ("in an old workshop|at the back of a toy shop", "sweet oil", "little|silver|small|rusty"),
    "crow": ("on the roof of the church|in a tall elm tree", "cherries", "little|black|clever|young"),
}

# place: (spots to search, things to see, the way there)
PLACES = {
    "the forest": (["under a tall pine tree", "behind a mossy rock", "in a pile of dry leaves", "beside the stream", "inside a hollow log"],
                   ["red mushrooms", "a squirrel with a nut", "tall ferns", "a woodpecker", "deer tracks"]),
    "the beach": (["behind a big rock", "under an old boat", "in the wet sand", "beside a rock pool", "between the dunes"],
                  ["white gulls", "pink shells", "a crab with one claw", "little boats", "foam on the waves"]),
    "the park": (["under a bench", "behind the fountain", "in the rose bushes", "beside the swings", "at the foot of the old oak"],
                 ["a man with three dogs", "yellow flowers", "children on the swings", "a brass band", "ducks on the pond"]),
    "the meadow": (["in the long grass", "beside the gate", "under a thorn bush", "near the beehives", "behind the haystack"],
                   ["blue butterflies", "busy bees", "poppies and daisies", "a sleepy cow", "a skylark"]),
    "the market": (["under a fruit stall", "behind the flower cart", "beside the well", "among the baskets", "near the bread oven"],
                   ["ripe peaches", "bright ribbons", "a man who juggled", "cheeses as big as wheels", "a parrot in a cage"]),
    "the river": (["under the wooden bridge", "among the reeds", "on a flat stone", "beside an old willow", "behind the water mill"],
                  ["silver fish", "a blue dragonfly", "a swan with her young", "a boat with a white sail", "smooth stones"]),
    "the hill": (["behind the stone wall", "under a lonely pine", "beside the windmill", "in a patch of heather", "near the sheep pen"],
                 ["the roofs of the village", "grazing sheep", "a hawk in the wind", "the blue sea far away", "purple heather"]),
    "the garden": (["under the apple tree", "behind the shed", "among the cabbages", "beside the pond", "in the strawberry bed"],
                   ["a robin on a spade", "fat bumblebees", "rows of beans", "a snail on a leaf", "red tulips"]),
}

TREASURES = ["red ball", "blue kite", "wooden boat", "silver whistle", "yellow scarf", "little drum", "golden button", "paper crown",
             "green hat", "toy train", "glass marble", "woollen bear", "brass bell", "striped umbrella"]
ADULTS_SHE = ["grandmother", "mother", "aunt", "sister"]
ADULTS_HE = ["grandfather", "father", "uncle", "brother"]
NEIGHBOURS = {"the baker": "he", "the old gardener": "she", "the miller": "he", "the shopkeeper": "she", "the postman": "he",
              "the fisherman": "he", "the shepherd": "she", "the clockmaker": "he", "the teacher": "she", "the librarian": "she"}
HOBBIES = ["to sing", "to paint", "to climb trees", "to look at the stars", "to collect stones", "to ask questions", "to run races",
           "to read stories", "to splash in puddles", "to build towers", "to watch the clouds", "to dance", "to bake", "to tell jokes"]
TRAITS = ["kind", "curious", "brave", "cheerful", "gentle", "clever", "quiet", "friendly", "playful", "helpful", "careful"]
FAULTS = ["shy", "impatient", "forgetful", "stubborn", "clumsy", "too proud", "lazy", "noisy"]
VILLAGES = ["a small village by the sea", "a quiet valley", "a town with crooked streets", "a village between two hills",
            "a little town by the river", "a land of green hills", "a village at the edge of the forest", "a faraway kingdom"]
